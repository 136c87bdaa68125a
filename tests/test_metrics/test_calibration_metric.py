"""The metric in mmseg's hands: data samples, batches, processes, real predictions."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import PixelData
from mmseg.datasets import CityscapesDataset
from mmseg.registry import METRICS, MODELS
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from balkd_seg.datasets.street_scenes import draw_scene
from balkd_seg.metrics import CalibrationMetric, calibration_metric
from balkd_seg.metrics.calibration import calibration_bins, calibration_scores, calibration_sums

ROOT = Path(__file__).resolve().parents[2]


def make_sample(seed, height=20, width=30, num_classes=5):
    """Return what mmengine's Evaluator hands to a metric: a data sample as a dict."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num_classes, height, width, generator=generator)
    target = torch.randint(num_classes, (1, height, width), generator=generator)
    target[:, :2] = 255
    return dict(
        seg_logits=dict(data=logits),
        pred_sem_seg=dict(data=logits.argmax(0, keepdim=True)),
        gt_sem_seg=dict(data=target),
        img_path=f'frame_{seed}.png',
    )


def whole(samples, num_bins=15, binning='equal-width'):
    """Return the scores of all samples at once, stacked into one tall image."""
    logits, prediction, target = (
        torch.cat([sample[name]['data'] for sample in samples], dim=1)
        for name in ('seg_logits', 'pred_sem_seg', 'gt_sem_seg')
    )
    settings = dict(num_bins=num_bins, binning=binning)
    sums = calibration_sums(logits, prediction[0], target[0], **settings)
    return calibration_scores(sums, calibration_bins(sums, **settings))


@pytest.mark.parametrize('binning', ['equal-width', 'equal-mass'])
@pytest.mark.parametrize('batch_size', [1, 2, 7])
def test_batches_are_the_whole(batch_size, binning):
    metric = METRICS.build(dict(type='CalibrationMetric', num_bins=10, binning=binning))
    samples = [make_sample(seed) for seed in range(7)]
    for _ in range(2):  # the second time as if the first had not been
        for start in range(0, 7, batch_size):
            metric.process({}, samples[start : start + batch_size])
        got = metric.evaluate(7)
        assert got == pytest.approx(whole(samples, 10, binning), rel=1e-6)
    assert list(got) == ['ECE', 'MCE', 'cECE', 'NLL', 'Brier']


def test_images_of_different_sizes():
    metric = CalibrationMetric()
    samples = [make_sample(0, height=10), make_sample(1, height=50)]
    metric.process({}, samples)
    assert metric.evaluate(2) == pytest.approx(whole(samples), rel=1e-6)


def test_memory_does_not_grow_with_the_images():
    metric = CalibrationMetric()
    for seed in range(20):
        metric.process({}, [make_sample(seed)])
        assert len(metric.results) <= 2
        assert all(one.cells.shape == (3, 6, 15) for one in metric.results)


def as_processes(monkeypatch, samples, world_size):
    """Return the scores of several processes, each with the share that mmengine's sampler gives.

    Collecting their results is mmengine's part; the slow test below runs it.
    """
    size, collected = len(samples), []
    padded = (samples * world_size)[: -(-size // world_size) * world_size]
    collect = lambda self, size: collected.extend(self.results)  # noqa: E731
    monkeypatch.setattr(calibration_metric.BaseMetric, 'evaluate', collect)
    for rank in range(world_size):
        dist_info = (rank, world_size)
        monkeypatch.setattr(calibration_metric, 'get_dist_info', lambda info=dist_info: info)
        metric = CalibrationMetric()
        metric.process({}, padded[rank::world_size])
        metric.evaluate(size)
    assert len(collected) == min(size, world_size)
    return CalibrationMetric().compute_metrics(collected)


@pytest.mark.parametrize('size', [1, 2, 4, 5, 6])
@pytest.mark.parametrize('world_size', [1, 2, 3, 4])
def test_every_image_counts_once_whatever_the_padding(monkeypatch, size, world_size):
    samples = [make_sample(seed) for seed in range(size)]
    got = as_processes(monkeypatch, samples, world_size)
    assert got == pytest.approx(whole(samples), rel=1e-6)


def test_logs_the_histogram_and_the_classes(monkeypatch):
    messages = []
    monkeypatch.setattr(calibration_metric, 'print_log', lambda text, logger: messages.append(text))
    logits = torch.zeros(2, 1, 4)
    logits[0] = math.log(3)
    sample = make_sample(0)
    sample.update(
        seg_logits=dict(data=logits),
        pred_sem_seg=dict(data=logits.argmax(0, keepdim=True)),
        gt_sem_seg=dict(data=torch.tensor([[[0, 0, 1, 1]]])),
    )
    metric = CalibrationMetric(num_bins=2, ignore_index=255)
    metric.dataset_meta = dict(classes=('road', 'car'))
    metric.process({}, [sample])
    metric.evaluate(1)
    histogram, classes = ([line.split() for line in text.splitlines()] for text in messages)
    assert ['|', '1', '|', '0.00', '|', '-', '|', '-', '|', '-', '|'] in histogram
    assert ['|', '2', '|', '100.00', '|', '75.00', '|', '50.00', '|', '25.00', '|'] in histogram
    assert ['|', 'road', '|', '25.00', '|'] in classes
    assert ['|', 'car', '|', '25.00', '|'] in classes


@pytest.mark.parametrize('told', [None, 255])
def test_says_which_label_it_leaves_out_if_nobody_does(monkeypatch, told):
    messages = []
    monkeypatch.setattr(calibration_metric, 'print_log', lambda text, logger: messages.append(text))
    metric = CalibrationMetric()
    metric.tell_ignored_label(told)
    metric.process({}, [make_sample(0)])
    metric.evaluate(1)
    said = [x for x in messages if 'label 255 does not count' in x and 'CheckDataHook' in x]
    assert len(said) == (told is None)


def test_prefix_keeps_two_networks_apart():
    metric = CalibrationMetric(prefix='student')
    metric.process({}, [make_sample(0)])
    assert next(iter(metric.evaluate(1))) == 'student/ECE'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [(dict(num_bins=0), 'got 0'), (dict(binning='adaptive'), "got 'adaptive'")],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        CalibrationMetric(**settings)


@pytest.mark.parametrize('name', ['seg_logits', 'gt_sem_seg'])
def test_refuses_incomplete_predictions(name):
    sample = make_sample(0)
    del sample[name]
    with pytest.raises(ValueError, match=f'{name} is missing.*labelled images'):
        CalibrationMetric().process({}, [sample])


def test_names_the_image():
    sample = make_sample(3)
    sample['gt_sem_seg']['data'][:] = 77
    with pytest.raises(ValueError, match=r'got 77\..*Image: frame_3.png'):
        CalibrationMetric().process({}, [sample])


def test_refuses_images_that_were_tested_twice():
    metric = CalibrationMetric()
    metric.process({}, [make_sample(0)] * 4)
    with pytest.raises(ValueError, match=r'share of 2 images.*tested 4.*DefaultSampler'):
        metric.evaluate(2)


def test_refuses_to_say_something_about_nothing():
    with pytest.raises(ValueError, match='at least one tested image'):
        CalibrationMetric().evaluate(0)


def scenes(count, seed=0):
    """Return images (N, 3, H, W), as floats, and labels (N, H, W) of street scenes."""
    pairs = [draw_scene(np.random.default_rng([seed, index]), (96, 64)) for index in range(count)]
    images, labels = (np.stack(parts) for parts in zip(*pairs, strict=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()


@pytest.fixture
def predictions(make_segmentor, make_batch):
    """Predictions of a network that learned a little, as mmseg's own test step leaves them."""
    torch.manual_seed(0)
    network = MODELS.build(ConfigDict(make_segmentor(num_classes=19, auxiliary=False))).train()
    images, labels = scenes(6)
    samples = make_batch(size=6)[1]
    for sample, label in zip(samples, labels, strict=True):
        sample.gt_sem_seg = PixelData(data=label[None])
        shape = dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96))
        sample.set_metainfo(shape)
    inputs = (images.flip(1) - 115.0) / 57.0
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        network.loss(inputs, samples)['decode.loss_ce'].backward()
        optimizer.step()
    network.eval()
    network.data_preprocessor.test_cfg = dict(size=(64, 96))
    return network.test_step(dict(inputs=list(images), data_samples=samples))


def test_real_predictions_equal_torchmetrics(predictions):
    metric = CalibrationMetric()
    metric.dataset_meta = CityscapesDataset.METAINFO
    metric.process({}, [sample.to_dict() for sample in predictions])
    got = metric.evaluate(len(predictions))
    logits = torch.stack([sample.seg_logits.data for sample in predictions])
    target = torch.stack([sample.gt_sem_seg.data[0] for sample in predictions])
    p = logits.double().softmax(1)
    valid = target != 255
    assert valid.float().mean() < 1
    assert 0.4 < (p.argmax(1) == target)[valid].double().mean() < 1
    for name, norm in (('ECE', 'l1'), ('MCE', 'max')):
        expected = multiclass_calibration_error(p, target, 19, 15, norm, ignore_index=255)
        assert got[name] == pytest.approx(100 * float(expected), rel=1e-3)
    by_class = [
        binary_calibration_error(p[:, c][valid], (target == c)[valid], 15) for c in range(19)
    ]
    assert got['cECE'] == pytest.approx(100 * float(torch.stack(by_class).mean()), rel=1e-5)
    assert got['ECE'] > 1


def run(*command, cwd):
    """Run a command as a user would; on failure show the end of its output."""
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def read_result(folder):
    """Return what a test run wrote beside its log, in full precision."""
    (file,) = (path for path in folder.glob('*/*.json') if path.parent.name == path.stem)
    return json.loads(file.read_text())


BASE = 'baseline/baseline_pspnet-r18-d32_1xb4-300_street-scenes-128x256.py'
CONFIG = f"""
_base_ = ['{ROOT}/configs/{BASE}', '{ROOT}/configs/_base_/calibration.py']
val_evaluator = test_evaluator = [_base_.test_evaluator, _base_.calibration]
test_dataloader = dict(num_workers=0, persistent_workers=False)
"""


@pytest.mark.slow
def test_mim_test_and_two_processes_by_config_inheritance_alone(tmp_path):
    """Three images on two processes: one is tested twice and counts once."""
    (tmp_path / 'both.py').write_text(CONFIG)
    torch.manual_seed(0)
    network = MODELS.build(Config.fromfile(tmp_path / 'both.py').model)
    torch.nn.init.normal_(network.decode_head.conv_seg.weight, std=0.5)
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'network.pth')
    scenes = ('--out=data/street_scenes', '--train=0', '--val=3', '--size=128x64', '--workers=1')
    run(sys.executable, ROOT / 'tools/make_street_scenes.py', *scenes, cwd=tmp_path)
    mim = ('mim', 'test', 'mmsegmentation', 'both.py', '--checkpoint', 'network.pth')
    run(*mim, '--work-dir', 'one', cwd=tmp_path)
    launch = ('torchrun', '--nproc_per_node=2', '--rdzv-backend=c10d')
    run(
        *launch, '--rdzv-endpoint=localhost:0', ROOT / 'tools/test.py', 'both.py', 'network.pth',
        '--launcher=pytorch', '--work-dir=two', cwd=tmp_path,
    )  # fmt: skip
    one, two = read_result(tmp_path / 'one'), read_result(tmp_path / 'two')
    assert {'mIoU', 'ECE', 'MCE', 'cECE', 'NLL', 'Brier'} <= set(one)
    timing = ('time', 'data_time')
    drop = lambda result: {k: v for k, v in result.items() if k not in timing}  # noqa: E731
    assert drop(two) == pytest.approx(drop(one), rel=1e-9)
