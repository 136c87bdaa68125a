"""What MMSegmentation and MMEngine offer beside training, with a distiller in a student's place."""

import copy
import importlib.util
import itertools
import shutil
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.datasets import ADE20KDataset
from mmseg.registry import TRANSFORMS
from PIL import Image

from balkd_seg.compat.cpu_distributed import build_runner
from balkd_seg.networks.build import build_network

# OpenMMLab's own, and a Runner without a config file
pytestmark = pytest.mark.filterwarnings('ignore')
SIZE = (32, 48)
NAMES = ('road', 'wall', 'sky', 'car', 'tree')
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = dict(type='PackSegInputs')
COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def _short_starts(monkeypatch):
    """Spare a Runner what takes longer than a run: to ask compilers, and to lay out configs."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    lines = property(lambda cfg: '\n'.join(f'{k} = {v!r}' for k, v in cfg.to_dict().items()))
    monkeypatch.setattr(Config, 'pretty_text', lines)


@pytest.fixture
def load_tool(monkeypatch):
    """Return what imports a tool by its file: `test` is a module of Python's own, too."""
    tools = Path(__file__).parents[1] / 'tools'
    monkeypatch.syspath_prepend(tools)

    def load(name):
        spec = importlib.util.spec_from_file_location(f'tools_{name}', tools / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def place(tmp_path):
    """A folder with eight images and labels from 0 to 4, a tenth ignored."""
    write_data(tmp_path / 'data')
    return tmp_path


def write_data(folder, bands=3, save=lambda path, label: cv2.imwrite(str(path), label)):
    """Write eight images and labels; `save` writes a label."""
    generator = np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(parents=True)
    for index in range(8):
        blocks = generator.integers(0, 5, (4, 6), dtype=np.uint8)
        label = blocks.repeat(SIZE[0] // 4, 0).repeat(SIZE[1] // 6, 1)
        image = np.stack([label * factor for factor in (9, 21, 40, 50)[:bands]], -1)
        label[:3] = 255
        done, encoded = cv2.imencode('.png', image)
        assert done
        (folder / 'images' / f'{index}.png').write_bytes(encoded.tobytes())
        save(folder / 'labels' / f'{index}.png', label)


def dataset(place, pipeline=(*LOAD, PACK), kind='BaseSegDataset', **settings):
    return dict(
        type=kind,
        data_root=str(place / 'data'),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        **{'img_suffix': '.png', 'metainfo': dict(classes=NAMES), **settings},
        pipeline=list(pipeline),
    )


def config(place, model, data=None, work='work', iterations=2, **settings):
    """Return the config of a run of two images a step."""
    loader = dict(batch_size=2, num_workers=0)
    shuffled = dict(loader, sampler=dict(type='InfiniteSampler', shuffle=True))
    ordered = dict(loader, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    cfg = dict(
        default_scope='mmseg',
        experiment_name=f'run{next(COUNTER)}',
        log_level='ERROR',
        model=model,
        work_dir=str(place / work),
        train_dataloader=dict(shuffled, dataset=data or dataset(place)),
        val_dataloader=dict(ordered, dataset=dataset(place)),
        val_evaluator=dict(type='IoUMetric'),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations),
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        custom_hooks=[dict(type='CheckDataHook'), dict(type='DistillStateHook')],
        randomness=dict(seed=1),
    )
    cfg.update(test_dataloader=cfg['val_dataloader'], test_evaluator=cfg['val_evaluator'])
    cfg['test_cfg'] = dict(type='TestLoop')
    return Config(dict(cfg, **settings))


@pytest.fixture
def distiller(make_segmentor, save_teacher):
    """The config of a distillation between two networks of an architecture."""

    def make(change=lambda network: None):
        student, teacher = make_segmentor(auxiliary=False), make_segmentor(auxiliary=False)
        for network in (student, teacher):
            change(network)
        teacher['checkpoint'] = save_teacher(teacher)
        distill = [dict(type='BalancedDivergenceLoss')]
        return dict(type='OfflineDistiller', student=student, teacher=teacher, distill=distill)

    return make


def train(cfg):
    """Train and return the Runner, and the last values of what is logged by name."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    return runner, {key: value.current() for key, value in scalars.items()}


def weights(place, iteration=2, work='work'):
    return torch.load(place / work / f'iter_{iteration}.pth', weights_only=True)


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], value) for key, value in other.items())


# data


def test_reduced_labels_and_a_part_of_the_classes_of_ade20k(tmp_path, distiller):
    """0 is ignored, 1 to 5 are the classes 0 to 4, 6 is a class that is left out."""
    first = ADE20KDataset.METAINFO['classes'][:4]

    def save(path, label):
        cv2.imwrite(str(path), np.where(label == 255, 0, label + 1).astype(np.uint8))

    write_data(tmp_path / 'data', save=save)
    load = [LOAD[0], dict(type='LoadAnnotations', reduce_zero_label=True), PACK]
    data = dataset(tmp_path, load, 'ADE20KDataset', metainfo=dict(classes=first), img_suffix='.png')

    def change(network):
        network['decode_head']['num_classes'] = 4

    cfg = config(tmp_path, distiller(change), data)
    cfg.val_dataloader.dataset = cfg.test_dataloader.dataset = data
    _, log = train(cfg)
    files = [cv2.imread(str(tmp_path / f'data/labels/{i}.png'), 0) for i in range(8)]
    shares = [((label > 0) & (label < 5)).mean() for label in files]
    assert min(shares) <= log['train/distill.balkd_valid'] <= max(shares)
    assert log['train/distill.balkd_valid'] < 0.95


@pytest.mark.parametrize('how', ['LoadAnnotations', 'LoadCheckedAnnotations'])
def test_labels_with_a_palette(tmp_path, distiller, how):
    def save(path, label):
        picture = Image.fromarray(label, mode='P')
        picture.putpalette(list(range(255, -1, -1)) * 3)
        picture.save(path)

    write_data(tmp_path / 'data', save=save)
    load = dict(type=how, **({'num_classes': 5} if how == 'LoadCheckedAnnotations' else {}))
    data = dataset(tmp_path, [LOAD[0], load, PACK])
    _, log = train(config(tmp_path, distiller(), data))
    assert log['train/distill.balkd_valid'] == pytest.approx(1 - 3 / 32)
    path = str(tmp_path / 'data/labels/0.png')
    sample = dict(seg_map_path=path, seg_fields=[], reduce_zero_label=False, label_map=None)
    labels = TRANSFORMS.build(load)(dict(sample, ori_shape=SIZE))['gt_seg_map']
    assert set(np.unique(labels)) <= {*range(5), 255}


def mosaic(place):
    pipeline = [dict(type='RandomMosaic', prob=1.0, img_scale=SIZE, seg_pad_val=255),
                dict(type='RandomCrop', crop_size=SIZE), PACK]  # fmt: skip
    return dict(type='MultiImageMixDataset', dataset=dataset(place, LOAD), pipeline=pipeline)


WRAPPERS = {
    'concat': lambda p: dict(type='ConcatDataset', datasets=[dataset(p), dataset(p)]),
    'repeat': lambda p: dict(type='RepeatDataset', times=3, dataset=dataset(p)),
    'mosaic': mosaic,
}


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_wrapped_data_sets(place, distiller, wrapper):
    _, log = train(config(place, distiller(), WRAPPERS[wrapper](place)))
    assert log['train/distill.loss_balkd'] > 0


def test_four_bands(tmp_path, distiller):
    write_data(tmp_path / 'data', bands=4)
    load = [dict(type='LoadImageFromFile', color_type='unchanged'), LOAD[1], PACK]

    def change(network):
        network['backbone']['in_channels'] = 4
        statistics = dict(mean=[10.0, 20.0, 30.0, 40.0], std=[50.0] * 4, bgr_to_rgb=False)
        network['data_preprocessor'].update(statistics)

    cfg = config(tmp_path, distiller(change), dataset(tmp_path, load))
    cfg.val_dataloader.dataset.pipeline = load
    runner, log = train(cfg)
    assert runner.model.backbone.stem[0].weight.shape[1] == 4
    assert log['train/distill.loss_balkd'] > 0


def test_paths_in_any_script(tmp_path, distiller):
    place = tmp_path / 'Straße 日本'
    write_data(place / 'data', save=lambda p, label: p.write_bytes(cv2.imencode('.png', label)[1]))
    model = distiller()
    moved = place / 'Lehrer ☃.pth'
    shutil.copy(model['teacher']['checkpoint'], moved)
    model['teacher']['checkpoint'] = str(moved)
    train(config(place, model))
    assert 'state_dict' in weights(place)


# training


@pytest.mark.parametrize('kind', ['ExponentialMovingAverage', 'StochasticWeightAverage'])
def test_averaged_weights_resume(place, distiller, kind):
    model = distiller()

    def run(work, iterations, resume=False):
        cfg = config(place, copy.deepcopy(model), work=work, iterations=iterations, resume=resume)
        cfg.custom_hooks.append(dict(type='EMAHook', ema_type=kind))
        return train(cfg)

    run('whole', 4)
    run('parts', 2)
    run('parts', 4, resume=True)
    whole, parts = (weights(place, 4, work) for work in ('whole', 'parts'))
    assert_same(whole['state_dict'], parts['state_dict'])
    assert_same(whole['ema_state_dict'], parts['ema_state_dict'])
    averaged, last = whole['state_dict'], whole['ema_state_dict']
    name = 'decode_head.conv_seg.weight'
    assert not torch.equal(averaged[name], last[f'module.{name}'])


def test_a_student_starts_from_a_checkpoint(place, distiller, make_segmentor, save_teacher):
    path = save_teacher(make_segmentor(auxiliary=False), name='student.pth', seed=3)
    cfg = config(place, distiller(), load_from=path)
    cfg.optim_wrapper.optimizer.lr = 0.0
    train(cfg)
    expected = torch.load(path, weights_only=True)['state_dict']
    got = weights(place)['state_dict']
    assert all(torch.equal(got[k], v) for k, v in expected.items() if k.endswith('weight'))


def test_mixed_precision_accumulation_and_clipping_together(
    place, distiller, make_segmentor, save_teacher
):
    path = save_teacher(make_segmentor(auxiliary=False), name='student.pth', seed=3)
    cfg = config(place, distiller(), load_from=path)
    cfg.optim_wrapper.update(
        type='AmpOptimWrapper', dtype='bfloat16', accumulative_counts=2,
        clip_grad=dict(max_norm=1e-3),
    )  # fmt: skip
    runner, log = train(cfg)
    assert log['train/grad_norm'] > 1e-3
    start = torch.load(path, weights_only=True)['state_dict']
    moved = [(value - start[name]).norm() for name, value in runner.model.named_parameters()]
    # one update in two iterations, of the clipped gradient
    assert float(torch.stack(moved).norm()) == pytest.approx(0.05 * 1e-3, rel=0.05)


def test_a_data_preprocessor_at_the_top(place, distiller):
    inside = distiller()
    train(config(place, copy.deepcopy(inside), work='inside'))
    model = copy.deepcopy(inside)
    top = model['student'].pop('data_preprocessor')
    model['teacher'].pop('data_preprocessor')
    train(config(place, model, work='top', data_preprocessor=top))
    inside, top = (weights(place, work=work)['state_dict'] for work in ('inside', 'top'))
    assert_same(inside, top)


class Writer:
    """Stands in for TensorBoard's, which tests need not have."""

    tags: set = set()  # noqa: RUF012

    def __init__(self, folder):
        pass

    def add_scalar(self, tag, value, step):
        self.tags.add(tag)

    def add_text(self, *_):
        pass

    def close(self):
        pass


def test_tensorboard_gets_every_term(place, distiller, monkeypatch):
    module = ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    backends = [dict(type='TensorboardVisBackend')]
    cfg = config(place, distiller())
    cfg.visualizer = dict(type='SegLocalVisualizer', vis_backends=backends, name=f'v{id(cfg)}')
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1, log_metric_by_epoch=False)
    train(cfg)
    assert {'distill.loss_balkd', 'distill.balkd_agreement', 'mIoU'} <= Writer.tags


def test_the_flag_of_distributed_training(place, distiller, monkeypatch):
    for name in ('RANK', 'LOCAL_RANK', 'MASTER_PORT'):
        monkeypatch.setenv(name, '0')
    monkeypatch.setenv('WORLD_SIZE', '1')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = config(place, distiller(), launcher='pytorch', find_unused_parameters=True)
    try:
        runner = build_runner(cfg)
        runner.train()
        assert runner.model.find_unused_parameters
    finally:
        torch.distributed.destroy_process_group()
    assert 'state_dict' in weights(place)


# inference


@pytest.fixture
def trained(place, distiller):
    """A distillation, its config in a file, and its checkpoint."""
    cfg = config(place, distiller())
    train(cfg)
    cfg.test_pipeline = [LOAD[0], PACK]
    cfg.visualizer = dict(type='SegLocalVisualizer', name=cfg.experiment_name)
    cfg.dump(place / 'distil.py')
    return cfg, str(place / 'distil.py'), str(place / 'work' / 'iter_2.pth')


def test_mmsegs_functions_and_inferencer_give_the_students_prediction(trained, place):
    cfg, file, checkpoint = trained
    student = Config(dict(model=cfg.model.student, test_pipeline=cfg.test_pipeline))
    image = str(place / 'data' / 'images' / '0.png')
    expected, got = (
        inference_model(init_model(one, checkpoint, device='cpu'), image) for one in (student, file)
    )
    assert torch.equal(expected.seg_logits.data, got.seg_logits.data)
    inferencer = MMSegInferencer(model=file, weights=checkpoint, device='cpu')
    inferencer.show_progress = False
    labels = inferencer(image, return_datasamples=True).pred_sem_seg.data
    assert torch.equal(labels, expected.pred_sem_seg.data)


@pytest.mark.parametrize('top', [False, True])
def test_augmented_testing(trained, top):
    cfg, _, checkpoint = trained
    steps = [
        [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (1.0, 1.5)],
        [dict(type='RandomFlip', prob=p, direction='horizontal') for p in (0.0, 1.0)],
        [LOAD[1]],
        [PACK],
    ]
    cfg.test_dataloader.dataset.pipeline = [LOAD[0], dict(type='TestTimeAug', transforms=steps)]
    cfg.update(load_from=checkpoint, experiment_name=f'run{next(COUNTER)}')
    model = cfg.model
    if top:
        cfg.data_preprocessor = model.student.pop('data_preprocessor')
        model.teacher.pop('data_preprocessor')
    cfg.model = dict(type='SegTTAModel', module=model)
    runner = Runner.from_cfg(cfg)
    assert runner.model.module.data_preprocessor.mean.flatten()[0] == pytest.approx(123.675)
    assert runner.test()['mIoU'] > 0


# configs in Python's own style, where a type is a class

PYTHON_STYLE = """
from mmengine.config import read_base

with read_base():
    from .base import *

from mmengine.runner import IterBasedTrainLoop
from mmseg.datasets import BaseSegDataset
from mmseg.evaluation import IoUMetric
from mmseg.models import EncoderDecoder

from balkd_seg.distillers import MutualDistiller
from balkd_seg.hooks import CheckDataHook, DistillStateHook
from balkd_seg.losses import PixelwiseKLLoss
from balkd_seg.metrics import CalibrationMetric, NetworksMetric

network.update(type=EncoderDecoder)
model = dict(
    type=MutualDistiller,
    student=network,
    peers=dict(tutor=network),
    distill=[dict(type=PixelwiseKLLoss)],
)
train_dataloader.dataset.update(type=BaseSegDataset)
train_cfg.update(type=IterBasedTrainLoop)
metrics = [dict(type=IoUMetric), dict(type=CalibrationMetric)]
val_evaluator = dict(type=NetworksMetric, metric=metrics)
test_evaluator = dict(type=NetworksMetric, metric=metrics)
custom_hooks = [dict(type=CheckDataHook), dict(type=DistillStateHook)]
"""


def test_a_config_of_classes_trains_and_writes_what_each_network_predicts(
    place, make_segmentor, load_tool
):
    network = make_segmentor(auxiliary=False)
    cfg = config(place, dict(type='placeholder'), network=network)
    cfg.dump(place / 'base.py')
    (place / 'classes.py').write_text(PYTHON_STYLE)
    cfg = Config.fromfile(place / 'classes.py')
    load_tool('test').write_label_maps(cfg.test_evaluator, str(place / 'maps'))
    runner, log = train(cfg)
    assert log['train/distill.loss_kd'] > 0
    scores = runner.test()
    assert {'student/mIoU', 'student/ECE', 'tutor/mIoU', 'tutor/ECE'} <= set(scores)
    for name in ('student', 'tutor'):
        assert len(list((place / 'maps' / name).glob('*.png'))) == 8
    # as a file without classes it is the same
    cfg.dump(place / 'written.py')
    written = Config.fromfile(place / 'written.py')
    peer = dict(state_dict=weights(place)['peers']['tutor'])
    built = build_network(written, peer, 'iter_2.pth', 'tutor')
    image = torch.randn(1, 3, *SIZE)
    assert torch.equal(built(image), runner.model.peers.network('tutor').eval()(image))


def test_the_best_of_several_networks_is_named_before_the_first_step(place, make_segmentor):
    network = make_segmentor(auxiliary=False)
    distill = [dict(type='PixelwiseKLLoss')]
    model = dict(
        type='MutualDistiller', student=network, peers=dict(tutor=network), distill=distill
    )
    cfg = config(place, model)
    cfg.val_evaluator = dict(type='NetworksMetric', metric=dict(type='IoUMetric'))
    cfg.default_hooks.checkpoint.save_best = 'mIoU'
    with pytest.raises(ValueError, match=r"`save_best` of the CheckpointHook .*'student/mIoU'"):
        train(cfg)
    assert not list((place / 'work').glob('*.pth'))
