"""Time what `CalibrationMetric` adds to the evaluation of an image.

Evaluation is what mmseg does for an image that is loaded: the network's `test_step` (preprocessing,
forward pass, resizing, argmax) and `IoUMetric`. The metric then gets a prediction of the same size
that is drawn, because an untrained network's is too easy: smooth logits of mean confidence 0.7,
less sure than a trained network's and so slower, as the metric sorts all probabilities above 1/15.
Weights and labels are random, a tenth of the labels ignored. Steps take turns in one process. Runs
on the GPU if there is one.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import torch
import torch.nn.functional as F
from benchmark_report import metadata
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from balkd_seg.metrics import CalibrationMetric
from balkd_seg.metrics.calibration import BINNINGS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/baseline/baseline_pspnet-r18_4xb2-80k_cityscapes-512x1024.py'


def make_evaluation(config: str, size: tuple[int, int], device: str) -> Callable[[], None]:
    """Return a function that runs a network and IoUMetric on one image.

    Args:
        config: Of a network without distillation.
        size: (H, W) of the image.
        device: Where.
    """
    network = revert_sync_batchnorm(MODELS.build(Config.fromfile(config).model)).to(device).eval()
    num_classes = network.out_channels
    metric = IoUMetric(prefix='iou')
    metric.dataset_meta = dict(classes=list(range(num_classes)))
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), size)
    sample = SegDataSample(metainfo=dict(shapes, img_path='random'))
    sample.gt_sem_seg = PixelData(data=torch.randint(num_classes, (1, *size)))

    def evaluate() -> None:
        with torch.no_grad():
            samples = network.test_step(dict(inputs=[image], data_samples=[sample]))
        metric.process({}, [one.to_dict() for one in samples])

    return evaluate


def make_prediction(num_classes: int, size: tuple[int, int], device: str) -> dict[str, Any]:
    """Return a prediction as a metric gets it, with smooth logits."""
    generator = torch.Generator().manual_seed(0)
    coarse = 6 * torch.randn(1, num_classes, 16, 32, generator=generator)
    logits = F.interpolate(coarse, size, mode='bilinear', align_corners=False)[0].to(device)
    target = torch.randint(num_classes, (1, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    return {
        'seg_logits': {'data': logits},
        'pred_sem_seg': {'data': logits.argmax(0, keepdim=True)},
        'gt_sem_seg': {'data': target.to(device)},
    }


def measure(
    steps: dict[str, Callable[[], None]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Return milliseconds of each step in each round, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device == 'cuda':
                torch.cuda.synchronize()
            if number:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def summarise(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row for each step: median, spread, and the share of the evaluation's median."""
    rows = []
    for name, values in times.items():
        cuts = statistics.quantiles(values, n=5, method='inclusive')
        median = statistics.median(values)
        share = 100 * median / statistics.median(times['evaluation'])
        row = {'step': name, 'median ms': median, 'p20': cuts[0], 'p80': cuts[-1]}
        rows.append({**row, '% of evaluation': share, 'all ms': values})
    return rows


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', default=str(ROOT / CONFIG), help=f'default: {CONFIG}')
    parser.add_argument(
        '--size', type=int, nargs=2, default=[1024, 2048], metavar=('H', 'W'),
        help='of the image; default 1024 2048',
    )  # fmt: skip
    parser.add_argument('--rounds', type=int, default=5, help='default 5')
    parser.add_argument(
        '--threads', type=int, default=os.cpu_count(), help='of PyTorch; default all cores'
    )
    parser.add_argument('--out', type=Path, help='JSON file to write')
    args = parser.parse_args(argv)
    if args.rounds < 2:
        parser.error(f'expected --rounds of at least 2, but got {args.rounds}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    about = {**metadata(args.threads), 'device': device, 'config': Path(args.config).stem}
    size = (args.size[0], args.size[1])
    steps = {'evaluation': make_evaluation(args.config, size, device)}
    prediction = make_prediction(19, size, device)
    for binning in BINNINGS:
        metric = CalibrationMetric(binning=binning, prefix='calibration')
        steps[binning] = lambda metric=metric: metric.process({}, [prediction])
    rows = summarise(measure(steps, args.rounds, device))
    print(f'{about["config"]}, {size[0]}x{size[1]}, {device}, {args.threads} threads')
    print(f'{"step":12}{"median ms":>11}{"p20":>9}{"p80":>9}{"% of evaluation":>17}')
    for row in rows:
        print(
            f'{row["step"]:12}{row["median ms"]:>11.0f}{row["p20"]:>9.0f}{row["p80"]:>9.0f}'
            f'{row["% of evaluation"]:>17.1f}'
        )
    if args.out:
        args.out.write_text(json.dumps({**about, 'size': size, 'rows': rows}, indent=1) + '\n')


if __name__ == '__main__':
    main()
