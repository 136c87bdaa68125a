"""The commands of the README, on a data set made on the spot: train, test, resume, distribute."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

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
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=100)
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
    return torch.load(path, map_location='cpu', weights_only=True)['state_dict']


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
    (folder / 'stock_base.py').write_text(BASE.format(plugin=''))
    (folder / 'distil.py').write_text(DISTIL)
    (folder / 'teacher.py').write_text(
        "_base_ = './base.py'\nmodel = dict(_base_.student)\nmodel['backbone']['depth'] = 34\n"
    )
    (folder / 'student_stock.py').write_text("_base_ = './stock_base.py'\nmodel = _base_.student\n")
    run('mim', 'train', 'mmsegmentation', 'teacher.py', '--work-dir', 'teacher', cwd=folder)
    log = run('mim', 'train', 'mmsegmentation', 'distil.py', '--work-dir', 'work', cwd=folder)
    (folder / 'train.log').write_text(log)
    return folder


def test_training_log_shows_the_teacher_and_every_term(workplace):
    log = (workplace / 'train.log').read_text()
    assert 'every weight loaded from teacher/iter_6.pth' in log
    for name in ('loss_balkd', 'balkd_forward', 'balkd_reverse', 'balkd_agreement', 'loss_cwd'):
        assert f'distill.{name}: ' in log
    assert len(losses(log)) == 6


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
    checkpoint = torch.load(workplace / 'work' / 'iter_6.pth', weights_only=True)
    teacher = weights(workplace / 'teacher' / 'iter_6.pth')
    assert not set(checkpoint['state_dict']) - set(teacher)
    assert not [key for key in checkpoint['state_dict'] if 'distill' in key]
    assert len(checkpoint['state_dict']) < len(teacher)
    assert sorted(checkpoint['distill_state']) == ['1.projection.bias', '1.projection.weight']
    parameters = [k for k in checkpoint['state_dict'] if k.endswith(('weight', 'bias'))]
    assert len(checkpoint['optimizer']['state']) == len(parameters) + 2


def test_a_killed_run_resumes_to_the_same_weights(workplace):
    options = ('--cfg-options', 'train_cfg.max_iters=3')
    train = ('mim', 'train', 'mmsegmentation', 'distil.py', '--work-dir', 'resumed')
    run(*train, *options, cwd=workplace)
    log = run(*train, '--resume', cwd=workplace)
    assert [iteration for iteration, _ in losses(log)] == ['4', '5', '6']
    assert losses(log) == losses((workplace / 'train.log').read_text())[3:]
    expected, got = (weights(workplace / w / 'iter_6.pth') for w in ('work', 'resumed'))
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=0, atol=0, msg=key)


def test_amp_with_gradient_accumulation(workplace):
    log = run(
        'mim', 'train', 'mmsegmentation', 'distil.py', '--work-dir', 'amp', '--amp',
        '--cfg-options', 'optim_wrapper.accumulative_counts=2', 'train_cfg.max_iters=2',
        cwd=workplace,
    )  # fmt: skip
    exact = losses((workplace / 'train.log').read_text())[0][1]
    assert float(losses(log)[0][1]) == pytest.approx(float(exact), rel=0.05)


def test_two_cpu_processes_train_and_test_with_the_averaged_gradient(workplace):
    script = ROOT / 'tools' / 'train.py'
    launch = ('torchrun', '--nproc_per_node=2', '--master_port=0', '--rdzv-backend=c10d')
    log = run(
        *launch, '--rdzv-endpoint=localhost:0', script, 'distil.py', '--work-dir', 'two',
        '--launcher', 'pytorch', '--cfg-options', 'train_cfg.val_interval=6', cwd=workplace,
    )  # fmt: skip
    assert len(losses(log)) == 6
    assert re.search(r'Distributed training: True|distributed.*True', log)
    log = run(
        *launch, '--rdzv-endpoint=localhost:0', ROOT / 'tools' / 'test.py', 'distil.py',
        'two/iter_6.pth', '--launcher', 'pytorch', cwd=workplace,
    )  # fmt: skip
    assert float(mean_iou(log)) >= 0


def test_mim_train_balkd_seg_from_a_normal_install(workplace):
    run(
        sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation',
        ROOT, '-w', workplace / 'wheel', cwd=workplace,
    )  # fmt: skip
    (wheel,) = (workplace / 'wheel').glob('*.whl')
    installed = workplace / 'installed'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    mim = installed / 'balkd_seg' / '.mim'
    assert (mim / 'tools' / 'train.py').is_file()
    assert sorted(p.name for p in (mim / 'configs').iterdir()) == sorted(
        p.name for p in (ROOT / 'configs').iterdir() if p.name != '__pycache__'
    )
    log = run(
        'mim', 'train', 'balkd_seg', 'distil.py', '--gpus', '0', '--work-dir', 'normal',
        '--cfg-options', 'train_cfg.max_iters=1', cwd=workplace, PYTHONPATH=str(installed),
    )  # fmt: skip
    assert str(mim / 'tools' / 'train.py') in log
    assert losses(log)[0] == losses((workplace / 'train.log').read_text())[0]
