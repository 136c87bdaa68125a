"""The commands of the README, on a data set made on the spot: train, test, resume, distribute."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler

from balkd_seg.compat import load_weights

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
# mim knows mmsegmentation by that name; with a fork of another our own tool trains
MIM = any(x.name == 'mmsegmentation' for x in metadata.distributions())
TRAIN = ('mim', 'train', 'mmsegmentation') if MIM else (sys.executable, ROOT / 'tools' / 'train.py')
# without its ops and without entry points, mmsegmentation does not start by itself
ALONE = MIM and (torch.__version__ >= '2.5' or importlib.util.find_spec('mmcv._ext') is not None)
LAUNCH = (
    'torchrun',
    '--nproc_per_node=2',
    '--rdzv-backend=c10d',
    '--rdzv-endpoint=localhost:0',
)

BASE = """
_base_ = 'mmseg::_base_/default_runtime.py'
{plugin}
crop_size = (32, 48)
load = [dict(type='LoadImageFromFile')]
labels = [dict(type='LoadAnnotations')]
train_pipeline = load + labels + [
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
dataset = dict(type='CityscapesDataset', data_root='data', data_prefix=dict(
    img_path='leftImg8bit/train', seg_map_path='gtFine/train'))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(dataset, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(dataset, pipeline=load + labels + [dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02, momentum=0.9))
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=6, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=3)
tta_model = dict(type='SegTTAModel')
tta_pipeline = load + [dict(type='TestTimeAug', transforms=[
    [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in (1.0, 1.5)],
    [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
    labels, [dict(type='PackSegInputs')]])]
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3),
    visualization=dict(type='SegVisualizationHook'))
randomness = dict(seed=3)
norm = dict(type='SyncBN', requires_grad=True)
student = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size=crop_size, pad_val=0,
        seg_pad_val=255, bgr_to_rgb=True),
    backbone=dict(
        type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2), norm_cfg=norm),
    decode_head=dict(
        type='PSPHead', in_channels=64, in_index=3, channels=16, pool_scales=(1, 2),
        dropout_ratio=0.1, num_classes=19, norm_cfg=norm, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
"""
PLUGIN = """
custom_imports = dict(imports=['balkd_seg'], allow_failed_imports=False)
custom_hooks = [dict(type='CheckDataHook'), dict(type='DistillStateHook')]
"""
DISTIL = """
_base_ = './base.py'
model = dict(
    type='OfflineDistiller',
    student=_base_.student,
    teacher=dict(config='teacher.py', checkpoint='teacher/iter_6.pth'),
    distill=[
        dict(type='BalancedDivergenceLoss'),
        dict(type='ChannelwiseKLLoss', student_tap='backbone.layer4',
             teacher_tap='backbone.layer4', resize='student',
             projection=dict(in_channels=64, out_channels=64))])
"""


MUTUAL = """
_base_ = './base.py'
model = dict(
    type='MutualDistiller',
    student=_base_.student,
    peers=dict(teacher=dict(config='teacher.py')),
    distill=[
        dict(type='BalancedDivergenceLoss', entropy_weighting='image'),
        dict(type='PixelwiseKLLoss', learner='teacher')])
custom_hooks = [*_base_.custom_hooks, dict(type='DistillScheduleHook', schedules=[
    dict(loss='loss_balkd', setting='loss_weight', points=[(0, 0.0), (4, 1.0)])])]
val_evaluator = dict(
    _delete_=True, type='NetworksMetric',
    metric=[_base_.val_evaluator, dict(type='CalibrationMetric')])
test_evaluator = dict(val_evaluator)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'peers.teacher': dict(lr_mult=0.5)}))
"""

EXTRAS = """
_base_ = './distil.py'
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.1)]
student = _base_.model.student
student['backbone'].update(frozen_stages=1, norm_eval=True)
model = dict(student=student)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0)}))
train_cfg = dict(max_iters=4, val_interval=2)
"""


def run(*command, cwd, **environment):
    """Run a command as a user would and return its output; on failure show the end of it."""
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
            'OMP_NUM_THREADS': '1',
            'PYTHONWARNINGS': 'ignore',
            **environment,
        },
    )
    output = process.stdout + process.stderr
    assert process.returncode == 0, output[-4000:]
    return output


def mean_iou(output):
    return re.findall(r'mIoU: ([\d.]+)', output)[-1]


def losses(output):
    return re.findall(r'Iter\(train\) \[ *(\d+)/.*? loss: ([\d.]+)', output)


def weights(path):
    return load_weights(path, map_location='cpu')['state_dict']


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder with six labelled images, the configs, and a trained teacher and student."""
    folder = tmp_path_factory.mktemp('workplace')
    generator = np.random.default_rng(0)
    for index in range(6):
        label = np.full((48, 64), 255, np.uint8)
        label[2:] = cv2.resize(
            generator.integers(0, 19, (6, 8), dtype=np.uint8), (64, 48), None, 0, 0, 0
        )[2:]
        image = np.stack([label * factor for factor in (3, 5, 7)], axis=-1)
        for kind, suffix, array in (
            ('leftImg8bit', 'leftImg8bit', image),
            ('gtFine', 'gtFine_labelTrainIds', label),
        ):
            path = folder / 'data' / kind / 'train' / 'town' / f'town_{index}_{suffix}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), array)
    (folder / 'base.py').write_text(BASE.format(plugin=PLUGIN))
    (folder / 'extras.py').write_text(EXTRAS)
    (folder / 'stock_base.py').write_text(BASE.format(plugin=''))
    (folder / 'distil.py').write_text(DISTIL)
    (folder / 'mutual.py').write_text(MUTUAL)
    (folder / 'teacher.py').write_text(
        "_base_ = './base.py'\nmodel = dict(_base_.student)\nmodel['backbone']['depth'] = 34\n"
    )
    (folder / 'student_stock.py').write_text("_base_ = './stock_base.py'\nmodel = _base_.student\n")
    run(*TRAIN, 'teacher.py', '--work-dir', 'teacher', cwd=folder)
    log = run(*TRAIN, 'distil.py', '--work-dir', 'work', cwd=folder)
    (folder / 'train.log').write_text(log)
    return folder


def test_training_log_shows_the_teacher_and_every_term(workplace):
    log = (workplace / 'train.log').read_text()
    assert 'every weight loaded from teacher/iter_6.pth' in log
    for name in ('loss_balkd', 'balkd_forward', 'balkd_reverse', 'balkd_agreement', 'loss_cwd'):
        assert f'distill.{name}: ' in log
    assert len(losses(log)) == 6


@pytest.mark.skipif(not ALONE, reason='mmsegmentation does not start by itself here')
def test_stock_mim_test_gives_the_same_miou_without_teacher_and_without_plugin(workplace):
    (workplace / 'teacher').rename(workplace / 'teacher_away')
    try:
        command = ('--checkpoint', 'work/iter_6.pth')
        distilled = run('mim', 'test', 'mmsegmentation', 'distil.py', *command, cwd=workplace)
        stock = run('mim', 'test', 'mmsegmentation', 'student_stock.py', *command, cwd=workplace)
    finally:
        (workplace / 'teacher_away').rename(workplace / 'teacher')
    assert mean_iou(distilled) == mean_iou(stock)
    assert float(mean_iou(stock)) > 0
    assert 'unexpected key' not in stock + distilled
    assert 'missing keys' not in stock + distilled
    assert 'OfflineDistiller' not in stock


def test_checkpoint_holds_nothing_of_the_teacher_and_stores_projections_beside(workplace):
    checkpoint = load_weights(workplace / 'work' / 'iter_6.pth')
    teacher = weights(workplace / 'teacher' / 'iter_6.pth')
    assert not set(checkpoint['state_dict']) - set(teacher)
    assert not [key for key in checkpoint['state_dict'] if 'distill' in key]
    assert len(checkpoint['state_dict']) < len(teacher)
    assert sorted(checkpoint['distill_state']) == [
        'loss_cwd.projection.bias',
        'loss_cwd.projection.weight',
    ]
    parameters = [k for k in checkpoint['state_dict'] if k.endswith(('weight', 'bias'))]
    assert len(checkpoint['optimizer']['state']) == len(parameters) + 2


def test_a_stopped_run_resumes_to_the_same_weights(workplace):
    options = ('--cfg-options', 'train_cfg.max_iters=3')
    train = (*TRAIN, 'distil.py', '--work-dir', 'resumed')
    run(*train, *options, cwd=workplace)
    log = run(*train, '--resume', cwd=workplace)
    assert [iteration for iteration, _ in losses(log)] == ['4', '5', '6']
    if hasattr(InfiniteSampler, 'skip'):  # onedl's mmengine
        pytest.skip('earlier samples are not loaded again, so that augmentations differ')
    assert losses(log) == losses((workplace / 'train.log').read_text())[3:]
    expected, got = (weights(workplace / w / 'iter_6.pth') for w in ('work', 'resumed'))
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=0, atol=0, msg=key)


def test_amp_accumulation_ema_frozen_stages_and_learning_rates_together(workplace):
    run(
        'mim', 'train', 'mmsegmentation', 'extras.py', '--work-dir', 'extras', '--amp',
        '--cfg-options', 'optim_wrapper.accumulative_counts=2', cwd=workplace,
    )  # fmt: skip
    config = Config.fromfile(workplace / 'extras' / 'extras.py')
    assert config.optim_wrapper.type == 'AmpOptimWrapper'
    checkpoint = load_weights(workplace / 'extras' / 'iter_3.pth')
    averaged = {
        key.removeprefix('module.')
        for key in checkpoint['ema_state_dict']
        if key.startswith('module.') and 'distill' not in key
    }
    assert averaged == set(checkpoint['state_dict'])
    first, last = (weights(workplace / 'extras' / f'iter_{i}.pth') for i in (3, 4))
    changed = {key for key in first if not torch.equal(first[key], last[key])}
    assert any(key.startswith('decode_head') for key in changed)
    assert not any(key.startswith(('backbone.stem', 'backbone.layer1')) for key in changed)
    assert not any('running' in key for key in changed if key.startswith('backbone'))


def test_test_time_augmentation(workplace):
    script = ROOT / 'tools' / 'test.py'
    plain, augmented = (
        run(sys.executable, script, 'distil.py', 'work/iter_6.pth', *tta, cwd=workplace)
        for tta in ((), ('--tta',))
    )
    assert 'TestTimeAug' in augmented
    assert mean_iou(augmented) != mean_iou(plain)


RANK_GRADIENTS = """
import sys
sys.path.insert(0, {tests!r})
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
import balkd_seg
from conftest import batch, segmentor
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

register_all_modules(init_default_scope=True)
distributed.init_process_group('gloo')
rank = distributed.get_rank()
torch.manual_seed(0)
teacher = segmentor(depth=34)
torch.save(dict(state_dict=MODELS.build(teacher).state_dict()), f'rank{{rank}}.pth')
model = MODELS.build(dict(
    type='OfflineDistiller', student=segmentor(), teacher=dict(teacher, checkpoint='rank0.pth'),
    distill=[dict(type='BalancedDivergenceLoss', loss_weight=50.0)]))
distributed.barrier()
model.build_teacher()
model.double().eval()
inputs, samples = batch(size=2)
inputs = inputs.double()
for sample in samples:
    sample.gt_sem_seg.data.clamp_(max=4)  # as many valid pixels on each process


def gradient(module, part):
    model.zero_grad()
    module(inputs[part], samples[part], mode='loss')['distill.loss_balkd'].backward()
    return model.decode_head.conv_seg.weight.grad.clone()


whole = gradient(model, slice(0, 2))
wrapped = DistributedDataParallel(model, find_unused_parameters=True)
shared = gradient(wrapped, slice(rank, rank + 1))
alone = gradient(model, slice(rank, rank + 1))
torch.testing.assert_close(shared, whole)
assert not torch.allclose(alone, whole)
print('rank ' + str(rank) + ' agrees')  # one write: the processes share a pipe
"""


def test_two_processes_share_the_gradient_of_the_whole_batch(workplace):
    script = workplace / 'gradients.py'
    script.write_text(RANK_GRADIENTS.format(tests=str(ROOT / 'tests')))
    output = run(*LAUNCH, script, cwd=workplace)
    assert 'rank 0 agrees' in output
    assert 'rank 1 agrees' in output


def test_two_cpu_processes_train_and_test(workplace):
    log = run(
        *LAUNCH, ROOT / 'tools' / 'train.py', 'distil.py', '--work-dir', 'two',
        '--launcher', 'pytorch', cwd=workplace,
    )  # fmt: skip
    assert len(losses(log)) == 6
    assert re.search(r'Distributed training: True', log)
    distributed = run(
        *LAUNCH, ROOT / 'tools' / 'test.py', 'distil.py', 'two/iter_6.pth',
        '--launcher', 'pytorch', cwd=workplace,
    )  # fmt: skip
    # not the log's: there each process validates with the running statistics of its own BN
    single = run(
        sys.executable, ROOT / 'tools' / 'test.py', 'student_stock.py', 'two/iter_6.pth',
        cwd=workplace,
    )  # fmt: skip
    assert mean_iou(distributed) == mean_iou(single)


@pytest.fixture(scope='module')
def installed(workplace):
    """The package as a normal install puts it, built from a copy of the sources."""
    sources = workplace / 'sources'
    for name in ('balkd_seg', 'configs', 'tools'):
        shutil.copytree(ROOT / name, sources / name)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'model-index.yml'):
        shutil.copy2(ROOT / name, sources / name)
    run(
        sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation',
        sources, '-w', workplace / 'wheel', cwd=workplace,
    )  # fmt: skip
    (wheel,) = (workplace / 'wheel').glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(workplace / 'installed')
    return workplace / 'installed'


def test_a_normal_install_carries_configs_and_tools(installed):
    mim = installed / 'balkd_seg' / '.mim'
    for folder in ('configs', 'tools'):
        expected = {p.relative_to(ROOT / folder) for p in (ROOT / folder).rglob('*.py')}
        assert {p.relative_to(mim / folder) for p in (mim / folder).rglob('*.py')} == expected
    assert (mim / 'model-index.yml').is_file()


def test_mim_train_balkd_seg_finds_configs_by_name(workplace, installed):
    log = run(
        'mim', 'train', 'balkd_seg', 'baseline_pspnet-r18-d32_1xb4-300_street-scenes-128x256.py',
        '--gpus', '0', '--work-dir', 'normal', '--cfg-options', 'train_cfg.max_iters=1',
        'train_dataloader.dataset.data_root=data', 'val_dataloader.dataset.data_root=data',
        'val_dataloader.dataset.data_prefix.img_path=leftImg8bit/train',
        'val_dataloader.dataset.data_prefix.seg_map_path=gtFine/train',
        'train_dataloader.batch_size=2', 'default_hooks.logger.interval=1',
        cwd=workplace, PYTHONPATH=str(installed),
    )  # fmt: skip
    assert str(installed / 'balkd_seg' / '.mim' / 'tools' / 'train.py') in log
    assert len(losses(log)) == 1
    assert float(mean_iou(log)) >= 0


@pytest.fixture(scope='module')
def mutual(workplace):
    """The log of a run of two networks that train together."""
    train = ('mim', 'train', 'mmsegmentation', 'mutual.py', '--work-dir', 'mutual')
    return run(*train, cwd=workplace)


def test_mutual_training_scores_and_stores_every_network(workplace, mutual):
    for name in ('distill.loss_balkd', 'teacher.distill.loss_kd', 'teacher.decode.loss_ce'):
        assert f'{name}: ' in mutual
    values = re.findall(r' distill.balkd_weight: ([\d.]+)', mutual)
    assert [float(value) for value in values] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    scores = dict(re.findall(r'((?:student|teacher)/\w+): ([\d.]+)', mutual))
    assert {'student/mIoU', 'student/ECE', 'teacher/mIoU', 'teacher/NLL'} <= set(scores)
    # the student is a stock network for a stock test, and the teacher once it is taken out
    command = ('mim', 'test', 'mmsegmentation')
    student = ('student_stock.py', '--checkpoint', 'mutual/iter_6.pth')
    assert mean_iou(run(*command, *student, cwd=workplace)) == scores['student/mIoU']
    export = (sys.executable, ROOT / 'tools' / 'export_student.py', 'mutual/iter_6.pth')
    run(*export, 'peer.pth', '--network', 'teacher', cwd=workplace)
    teacher = ('teacher.py', '--checkpoint', 'peer.pth')
    assert mean_iou(run(*command, *teacher, cwd=workplace)) == scores['teacher/mIoU']
    # its own config scores both again, from one checkpoint
    both = run(*command, 'mutual.py', '--checkpoint', 'mutual/iter_6.pth', cwd=workplace)
    again = dict(re.findall(r'((?:student|teacher)/\w+): ([\d.]+)', both))
    assert again == scores


def test_a_stopped_mutual_run_resumes_to_the_same_weights(workplace, mutual):
    options = ('--cfg-options', 'train_cfg.max_iters=3')
    train = ('mim', 'train', 'mmsegmentation', 'mutual.py', '--work-dir', 'mutual_resumed')
    run(*train, *options, cwd=workplace)
    log = run(*train, '--resume', cwd=workplace)
    assert losses(log) == losses(mutual)[3:]
    files = (workplace / folder / 'iter_6.pth' for folder in ('mutual', 'mutual_resumed'))
    expected, got = (load_weights(file, map_location='cpu') for file in files)
    pairs = [(expected['state_dict'], got['state_dict'])]
    pairs.append((expected['peers']['teacher'], got['peers']['teacher']))
    for one, other in pairs:
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=0, atol=0, msg=key)


def test_mutual_training_starts_from_checkpoints_in_mixed_precision(workplace, mutual):
    log = run(
        'mim', 'train', 'mmsegmentation', 'mutual.py', '--work-dir', 'started', '--amp',
        '--cfg-options', 'load_from=mutual/iter_6.pth',
        'model.peers.teacher.checkpoint=teacher/iter_6.pth', 'train_cfg.max_iters=4',
        'optim_wrapper.accumulative_counts=2', 'optim_wrapper.optimizer.lr=0.0',
        cwd=workplace,
    )  # fmt: skip
    assert 'every weight loaded from teacher/iter_6.pth' in log
    started = load_weights(workplace / 'started' / 'iter_4.pth')
    origins = (
        weights(workplace / 'mutual' / 'iter_6.pth'),
        weights(workplace / 'teacher/iter_6.pth'),
    )
    for got, origin in zip(
        (started['state_dict'], started['peers']['teacher']), origins, strict=True
    ):
        for key, value in origin.items():
            if 'running' not in key and 'num_batches' not in key:
                assert torch.equal(got[key], value), key


def test_accumulated_gradients_in_mixed_precision_move_both_networks_and_resume(workplace):
    train = ('mim', 'train', 'mmsegmentation', 'mutual.py', '--amp')
    options = ('--cfg-options', 'optim_wrapper.accumulative_counts=2')
    whole = run(*train, '--work-dir', 'amp', *options, cwd=workplace)
    run(*train, '--work-dir', 'amp_resumed', *options, 'train_cfg.max_iters=4', cwd=workplace)
    log = run(*train, '--work-dir', 'amp_resumed', *options, '--resume', cwd=workplace)
    assert losses(log) == losses(whole)[4:]
    files = [workplace / folder / 'iter_6.pth' for folder in ('amp', 'amp_resumed')]
    expected, got = (load_weights(file) for file in files)
    earlier = load_weights(workplace / 'amp_resumed' / 'iter_3.pth')
    states = [(one['state_dict'], one['peers']['teacher']) for one in (expected, got, earlier)]
    for one, other, before in zip(*states, strict=True):
        assert all(torch.equal(other[key], value) for key, value in one.items())
        assert not torch.equal(before['backbone.stem.0.weight'], one['backbone.stem.0.weight'])


def test_two_cpu_processes_score_two_networks_as_one_does(workplace, mutual):
    test = (ROOT / 'tools' / 'test.py', 'mutual.py', 'mutual/iter_6.pth')
    log = run(*LAUNCH, *test, '--launcher', 'pytorch', cwd=workplace)
    found = [dict(re.findall(r'((?:student|teacher)/\w+): ([\d.]+)', one)) for one in (log, mutual)]
    assert 'teacher/ECE' in found[0]
    assert found[0] == found[1]


def test_two_cpu_processes_train_two_networks_alike(workplace):
    log = run(
        *LAUNCH, ROOT / 'tools' / 'train.py', 'mutual.py', '--work-dir', 'mutual_two',
        '--launcher', 'pytorch', '--cfg-options', 'randomness.diff_rank_seed=True', cwd=workplace,
    )  # fmt: skip
    assert len(losses(log)) == 6
    script = workplace / 'peers.py'
    script.write_text(RANK_PEERS.format(tests=str(ROOT / 'tests')))
    output = run(*LAUNCH, script, cwd=workplace)
    assert 'rank 0 agrees' in output
    assert 'rank 1 agrees' in output


RANK_PEERS = """
import sys
sys.path.insert(0, {tests!r})
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
import balkd_seg
from conftest import batch, segmentor
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

register_all_modules(init_default_scope=True)
distributed.init_process_group('gloo')
rank = distributed.get_rank()
torch.manual_seed(rank)  # processes start apart
model = MODELS.build(dict(
    type='MutualDistiller', student=segmentor(), peers=dict(teacher=segmentor(depth=34)),
    distill=[dict(type='BalancedDivergenceLoss', entropy_weighting='pixel', loss_weight=50.0),
             dict(type='PixelwiseKLLoss', learner='teacher')]))
model.init_weights()
peers = torch.cat([p.detach().flatten() for p in model.peers.parameters()])
gathered = [torch.empty_like(peers) for _ in range(2)]
distributed.all_gather(gathered, peers)
assert torch.equal(*gathered)
for tensor in model.state_dict().values():  # what mmengine's Runner does
    distributed.broadcast(tensor, 0)
model.double().eval()
inputs, samples = batch(size=2)
inputs = inputs.double()
for sample in samples:
    sample.gt_sem_seg.data.clamp_(max=4)  # as many valid pixels on each process


def gradients(module, part):
    model.zero_grad()
    losses = module(inputs[part], samples[part], mode='loss')
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    return [p.grad.clone() for p in model.parameters()]


whole = gradients(model, slice(0, 2))
wrapped = DistributedDataParallel(model)  # every weight takes part: nothing to find
shared = gradients(wrapped, slice(rank, rank + 1))
for one, other in zip(shared, whole, strict=True):
    torch.testing.assert_close(one, other)
print('rank ' + str(rank) + ' agrees')  # one write: the processes share a pipe
"""
