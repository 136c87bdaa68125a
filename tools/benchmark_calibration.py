"""Time what `CalibrationMetric` adds to the evaluation of an image.

Evaluation is what mmseg does for an image that is loaded: the network's `test_step` (preprocessing,
forward pass, resizing, argmax) and `IoUMetric`. The metric then gets a prediction of the same size
that is drawn, because an untrained network's is too easy: smooth logits of mean confidence 0.7,
less sure than a trained network's and so slower, as the metric sorts all probabilities above 1/15.
Weights and labels are random, a tenth of the labels ignored. Steps take turns in one process. Runs
on the GPU if there is one.
"""

from collections.abc import Callable
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import torch
import torch.nn.functional as F
from benchmark_steps import make_row, options, report, take_turns
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from balkd_seg.metrics import CalibrationMetric
from balkd_seg.metrics.calibration import BINNINGS
from balkd_seg.networks.build import network_config
from balkd_seg.networks.facts import input_channels

CONFIG = 'configs/baseline/baseline_pspnet-r18_4xb2-80k_cityscapes-512x1024.py'


def make_evaluation(config: str, size: tuple[int, int], device: str) -> Callable[[], None]:
    """Return a function that runs a network and IoUMetric on one image.

    Args:
        config: Of a network without distillation.
        size: (H, W) of the image.
        device: Where.
    """
    built = MODELS.build(network_config(Config.fromfile(config)))
    network = revert_sync_batchnorm(built).to(device).eval()
    num_classes = network.num_classes
    metric = IoUMetric(prefix='iou')
    metric.dataset_meta = dict(classes=list(range(num_classes)))
    image = torch.randint(256, (input_channels(network), *size), dtype=torch.uint8)
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


def summarise(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row for each step, with its ratio to the evaluation."""
    return [make_row(name, values, times['evaluation']) for name, values in times.items()]


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    args = options(__doc__, CONFIG, (1024, 2048)).parse_args(argv)
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    size = (args.size[0], args.size[1])
    steps = {'evaluation': make_evaluation(args.config, size, device)}
    prediction = make_prediction(19, size, device)
    for binning in BINNINGS:
        metric = CalibrationMetric(binning=binning, prefix='calibration')
        steps[binning] = lambda metric=metric: metric.process({}, [prediction])
    report(args, device, summarise(take_turns(steps, args.rounds, device)))


if __name__ == '__main__':
    main()
