r"""Measure a finished run of `tools/benchmark_methods.py`, which calls this for every run.

    python tools/methods_measure.py W/runs/kd/seed-0 [--teacher W/runs/teacher]

Writes measured.json into the run: on val and test, of the last checkpoint, mIoU, IoU of each class,
ECE and NLL with the histogram of confidence, and the share of valid pixels where the network and
the teacher name the same class; test mIoU of the best checkpoint on val too, if it is another. Then
what the deployed network costs for one val image, batch 1: parameters, FLOPs (each multiplication
and each addition of convolutions and matrix products), latency from the image tensor to the label
map (median and quartiles of 20). Label maps of up to 100 val images go to predictions/.
"""

import argparse
import copy
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import cv2
import numpy as np
import torch
from benchmark_meter import Meter
from benchmark_report import metadata
from calibrate import BINS
from methods_state import RunFolder, write_json
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS
from mmseg.utils import register_all_modules
from torch import nn
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

from balkd_seg.metrics.calibration import calibration_bins, calibration_scores, calibration_sums
from balkd_seg.metrics.predictions import class_logits_of
from balkd_seg.networks.build import load_network
from balkd_seg.networks.facts import ignored_label

GALLERY_IMAGES, GALLERY_WIDTH = 100, 384


class Scores:
    """What one pass over a data set adds up.

    Args:
        ignored: Label of pixels that do not count.
    """

    def __init__(self, ignored: int) -> None:
        self.ignored = ignored
        self.areas: list[tuple] = []
        self.calibration: Any = None
        self.same = self.valid = 0

    def add(self, sample: Any, taught: Any) -> None:
        """Add an image: the network's prediction, and the teacher's or None."""
        prediction = sample.pred_sem_seg.data[0]
        logits, likeliest = class_logits_of(sample.seg_logits.data, prediction)
        target = sample.gt_sem_seg.data[0].to(logits.device)
        areas = IoUMetric.intersect_and_union(prediction, target, len(logits), self.ignored)
        self.areas.append(areas)
        one = calibration_sums(logits, likeliest, target, ignore_index=self.ignored, **BINS)
        self.calibration = one if self.calibration is None else self.calibration + one
        valid = target != self.ignored
        self.valid += int(valid.sum())
        if taught is not None:
            self.same += int(((prediction == taught.pred_sem_seg.data[0]) & valid).sum())

    def result(self, agreement: bool) -> dict[str, Any]:
        """Return the scores, in per cent but the NLL."""
        totals = (sum(area) for area in zip(*self.areas, strict=True))
        iou = np.asarray(IoUMetric.total_area_to_metrics(*totals, ['mIoU'])['IoU'])
        bins = calibration_bins(self.calibration, **BINS)
        scores = calibration_scores(self.calibration, bins)
        histogram = zip(('pixels', 'probability', 'hits'), bins[:, 0].tolist(), strict=True)
        return {
            'mIoU': 100 * float(np.nanmean(iou)),
            'IoU': [None if np.isnan(one) else 100 * float(one) for one in iou],
            'ECE': scores['ECE'],
            'NLL': scores['NLL'],
            'agreement': 100 * self.same / self.valid if agreement and self.valid else None,
            'bins': dict(histogram),
            'images': len(self.areas),
        }


class Gallery:
    """Keeps some images, their truth and the label maps of a run, evenly spaced and small.

    Args:
        run: Takes the label maps.
        size: Number of images in the data set.
    """

    def __init__(self, run: RunFolder, size: int) -> None:
        self.common, self.own = run.path, run.path / 'predictions'
        while self.common.name != 'runs':
            self.common = self.common.parent
        self.common = self.common.parent / 'gallery'
        for folder in (self.common, self.own):
            folder.mkdir(parents=True, exist_ok=True)
        self.chosen = {int(i) for i in np.linspace(0, size - 1, min(size, GALLERY_IMAGES))}

    def add(self, index: int, sample: Any) -> None:
        """Keep an image if it is one of the chosen."""
        if index not in self.chosen:
            return
        self._write(self.own / f'{index:05d}.png', sample.pred_sem_seg.data[0])
        truth = self.common / f'{index:05d}_truth.png'
        if not truth.exists():
            labels = sample.gt_sem_seg.data[0]
            image = cv2.imread(sample.img_path)
            if image is None:  # bands that are no photograph
                image = np.zeros((*labels.shape, 3), np.uint8)
            self._write(self.common / f'{index:05d}_image.png', image, cv2.INTER_AREA)
            self._write(truth, labels)

    @staticmethod
    def _write(file: Path, picture: Any, how: int = cv2.INTER_NEAREST) -> None:
        if isinstance(picture, torch.Tensor):
            picture = picture.cpu().numpy().astype(np.uint8)
        if picture.shape[1] > GALLERY_WIDTH:
            height = round(GALLERY_WIDTH * picture.shape[0] / picture.shape[1])
            picture = cv2.resize(picture, (GALLERY_WIDTH, height), interpolation=how)
        done, encoded = cv2.imencode('.png', picture)
        assert done
        beside = file.with_suffix(f'.{os.getpid()}')  # several runs may write the same picture
        beside.write_bytes(encoded.tobytes())
        beside.replace(file)


@torch.no_grad()
def score(
    network: nn.Module,
    teacher: nn.Module | None,
    images: Dataset,
    workers: int,
    gallery: Any = None,
) -> dict[str, Any]:
    """Return the scores of a network on a data set."""
    sampler = dict(type='DefaultSampler', shuffle=False)
    loader = dict(dataset=images, batch_size=1, num_workers=workers, sampler=sampler)
    scores = Scores(ignored_label(network))
    for index, batch in enumerate(Runner.build_dataloader(loader)):
        taught = teacher.test_step(copy.deepcopy(batch))[0] if teacher is not None else None
        sample = network.test_step(batch)[0]
        scores.add(sample, taught)
        if gallery is not None:
            gallery.add(index, sample)
    return scores.result(teacher is not None)


@torch.no_grad()
def cost(network: nn.Module, images: Dataset, device: str) -> dict[str, Any]:
    """Return what a network costs for the first image of a data set."""
    sample = images[0]
    batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    data = network.data_preprocessor(batch, False)
    inputs, metas = data['inputs'], [one.metainfo for one in data['data_samples']]

    def step() -> torch.Tensor:
        return network.encode_decode(inputs, metas).argmax(1)

    with FlopCounterMode(display=False) as counter:
        step()
    meter = Meter(device)
    meter.times(step, 3)
    times = statistics.quantiles(meter.times(step, 20), n=4, method='inclusive')
    return {
        'parameters': sum(parameter.numel() for parameter in network.parameters()),
        'flops': counter.get_total_flops(),
        'latency_ms': dict(zip(('q1', 'median', 'q3'), times, strict=True)),
        'input': list(inputs.shape),
    }


def read_best(cfg: Config, checkpoint: Path) -> nn.Module | None:
    """Return the network of the best checkpoint; None, and a line, if a kill left half of it."""
    try:
        return load_network(cfg, str(checkpoint))
    except ValueError as error:
        print(f'The best checkpoint is not measured. {error}', flush=True)
        return None


def measure(run: RunFolder, teacher_run: RunFolder | None) -> dict[str, Any]:
    """Return everything about a run."""
    cfg = Config.fromfile(run.config)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    network = load_network(cfg, run.checkpoint).to(device)
    teacher = None
    if teacher_run is not None:
        teacher_cfg = Config.fromfile(teacher_run.config)
        teacher = load_network(teacher_cfg, teacher_run.checkpoint).to(device)
    val, workers = DATASETS.build(cfg.val_dataloader.dataset), cfg.val_dataloader.num_workers
    result = {'classes': list(val.metainfo['classes']), 'palette': val.metainfo.get('palette')}
    result['ignore_index'] = ignored_label(network)
    result['cost'] = cost(network, val, device)
    result['val'] = score(network, teacher, val, workers, Gallery(run, len(val)))
    same = cfg.test_dataloader.dataset == cfg.val_dataloader.dataset
    result['test_is_val'] = same
    test = val if same else DATASETS.build(cfg.test_dataloader.dataset)
    result['test'] = result['val'] if same else score(network, teacher, test, workers)
    best = sorted(run.work.glob('best_*.pth'), key=lambda file: file.stat().st_mtime)[-1:]
    if best and not best[0].stem.endswith(Path(run.checkpoint).stem):
        network = read_best(cfg, best[0])
        scores = score(network.to(device), None, test, workers) if network else {'mIoU': None}
        result['test_of_best'] = scores['mIoU']
    else:
        result['test_of_best'] = result['test']['mIoU']
    result['card'] = torch.cuda.get_device_name() if device == 'cuda' else None
    return {**result, **metadata(torch.get_num_threads())}


def main(argv: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('run', type=Path, help='folder of the run')
    parser.add_argument('--teacher', type=Path, help='folder of the run that agreement is with')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    run = RunFolder(args.run)
    try:
        result = measure(run, RunFolder(args.teacher) if args.teacher else None)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    write_json(run.measured, result)
    val, test = result['val'], result['test']
    print(json.dumps({'val': val['mIoU'], 'test': test['mIoU'], 'ECE': val['ECE']}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
