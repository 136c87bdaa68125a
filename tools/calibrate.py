r"""Compare how far the probabilities of networks can be trusted, on a CPU or a GPU.

    python tools/calibrate.py CONFIG CHECKPOINT [CONFIG CHECKPOINT ...]

For each network: mIoU, expected calibration error (ECE, 15 bins of equal width) and negative
log-likelihood (NLL), as trained and after temperature scaling, which divides the logits by one
fitted number. CONFIG is the network's own or a distillation config (its student is taken).

The temperature minimises the NLL on images that are not scored. `--fit-on val-half` (default) fits
on the first half of the val set and scores the second, in file order, so that neighbouring frames
of a video stay together; `--fit-on val` fits on the val set and scores the test set of the config.
All networks see the same images. calibration.png (reliability diagrams) and calibration.json (all
numbers) go to the work dir.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import numpy as np
import torch
from benchmark_report import metadata
from calibrate_report import format_table, write_figure
from command_line import load_config, make_parser
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn
from torch.utils.data import Dataset, Subset

from balkd_seg.metrics.calibration import (
    CalibrationSums,
    calibration_bins,
    calibration_scores,
    calibration_sums,
)
from balkd_seg.metrics.predictions import class_logits_of
from balkd_seg.metrics.temperature import INVERSE_TEMPERATURES, fit_temperature, nll_slopes
from balkd_seg.networks.build import load_network
from balkd_seg.networks.facts import ignored_label

BINS = dict(num_bins=15, binning='equal-width')
HOW = {
    'val-half': ('the first half of the val set', 'its second half'),
    'val': ('the val set', 'the test set'),
}


class Job(NamedTuple):
    """One network, where it came from, and the images for it."""

    name: str
    config: str
    checkpoint: str
    cfg: Config
    network: nn.Module
    fitted: Dataset
    scored: Dataset


def split_images(cfg: Config, fit_on: str) -> tuple[Dataset, Dataset]:
    """Return the images to fit the temperature on and those to score.

    Raises:
        ValueError: If there are too few images, or one would be in both parts.
    """
    val = DATASETS.build(cfg.val_dataloader.dataset)
    if fit_on == 'val-half':
        if len(val) < 2:
            raise ValueError(f'Expected at least two images in the val set, but got {len(val)}.')
        half = len(val) // 2
        return Subset(val, range(half)), Subset(val, range(half, len(val)))
    test = DATASETS.build(cfg.test_dataloader.dataset)
    common = set(image_paths(val)) & set(image_paths(test))
    if common:
        raise ValueError(
            f'Expected other images in the test set than in the val set, but {len(common)} are in '
            'both: temperatures would be scored on the images that they were fitted on. Use '
            '--fit-on val-half.'
        )
    return val, test


def image_paths(images: Dataset) -> list[str]:
    """Return the files of a data set, or of a part of one."""
    if isinstance(images, Subset):
        return [images.dataset.get_data_info(index)['img_path'] for index in images.indices]
    return [images.get_data_info(index)['img_path'] for index in range(len(images))]


@torch.no_grad()
def predict(network: nn.Module, images: Dataset, cfg: Config) -> Iterator[SegDataSample]:
    """Yield mmseg's prediction for every image."""
    loader = Runner.build_dataloader(
        dict(
            dataset=images,
            batch_size=1,
            num_workers=cfg.val_dataloader.get('num_workers', 0),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    )
    for batch in loader:
        yield from network.test_step(batch)


def fit(network: nn.Module, images: Dataset, cfg: Config) -> float:
    """Return the temperature of least NLL."""
    slopes, ignored = None, ignored_label(network)
    for sample in predict(network, images, cfg):
        logits, _ = class_logits_of(sample.seg_logits.data, sample.pred_sem_seg.data[0])
        target = sample.gt_sem_seg.data[0].to(logits.device)
        one = nll_slopes(logits, target, ignore_index=ignored)
        slopes = one if slopes is None else slopes + one
    return fit_temperature(slopes)


def score(network: nn.Module, images: Dataset, cfg: Config, temperature: float) -> dict[str, Any]:
    """Return mIoU, and scores and bins before and after division by the temperature."""
    areas: list[tuple] = []
    ignored = ignored_label(network)
    sums: dict[str, CalibrationSums] = {}
    for sample in predict(network, images, cfg):
        prediction = sample.pred_sem_seg.data[0]
        logits, likeliest = class_logits_of(sample.seg_logits.data, prediction)
        target = sample.gt_sem_seg.data[0].to(logits.device)
        areas.append(IoUMetric.intersect_and_union(prediction, target, len(logits), ignored))
        for name, scaled in (('before', logits), ('after', logits / temperature)):
            one = calibration_sums(scaled, likeliest, target, ignore_index=ignored, **BINS)
            sums[name] = sums[name] + one if name in sums else one
    totals = (sum(area) for area in zip(*areas, strict=True))
    iou = IoUMetric.total_area_to_metrics(*totals, ['mIoU'])['IoU']
    result = {'mIoU': 100 * float(np.nanmean(iou)), 'temperature': temperature}
    for name, one in sums.items():
        bins = calibration_bins(one, **BINS)
        histogram = zip(('pixels', 'probability', 'hits'), bins[:, 0].tolist(), strict=True)
        result[name] = {**calibration_scores(one, bins), 'bins': dict(histogram)}
    return result


def describe_fit(fit_on: str, num_fit: int, num_scored: int) -> str:
    """Say how the temperatures came about."""
    fitted, scored = HOW[fit_on]
    return (
        f'Temperatures: least NLL on {fitted} ({num_fit} images), where the slope of the NLL,\n'
        f'summed over all pixels at {len(INVERSE_TEMPERATURES)} temperatures, goes through zero.\n'
        f'All figures: {scored} ({num_scored} images), on which nothing was fitted.'
    )


def prepare(args: argparse.Namespace) -> list[Job]:
    """Read configs and checkpoints, so that mistakes show before anything runs.

    Raises:
        ValueError: If the networks would not be compared on the same images and classes.
    """
    jobs: list[Job] = []
    for name, config, checkpoint in args.networks:
        cfg = load_config(argparse.Namespace(**{**vars(args), 'config': config}))
        fitted, scored = split_images(cfg, args.fit_on)
        job = Job(name, config, checkpoint, cfg, load_network(cfg, checkpoint), fitted, scored)
        jobs.append(job)
        for part in ('fitted', 'scored'):
            if image_paths(getattr(job, part)) != image_paths(getattr(jobs[0], part)):
                raise ValueError(
                    f'Expected the images to be the same for all networks, but those of {config} '
                    f'and {jobs[0].config} differ. Compare networks of one data set.'
                )
    return jobs


def compare(args: argparse.Namespace) -> None:
    """Fit, score, and write what the command line asks for."""
    register_all_modules(init_default_scope=True)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    jobs, results = prepare(args), []
    for job in jobs:
        network = job.network.to(device)
        print(f'{job.name}: fitting on {len(job.fitted)} images', flush=True)
        temperature = fit(network, job.fitted, job.cfg)
        print(f'{job.name}: scoring {len(job.scored)} images', flush=True)
        scores = score(network, job.scored, job.cfg, temperature)
        results.append(
            {'name': job.name, 'config': job.config, 'checkpoint': job.checkpoint, **scores}
        )
        network.cpu()
    how = describe_fit(args.fit_on, len(jobs[0].fitted), len(jobs[0].scored))
    work = Path(jobs[0].cfg.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    report = {'how': how, **metadata(torch.get_num_threads()), 'networks': results}
    (work / 'calibration.json').write_text(json.dumps(report, indent=1) + '\n')
    write_figure(work / 'calibration.png', results)
    print(f'\n{how}\n\n{format_table(results)}\n')
    ends = (1 / INVERSE_TEMPERATURES[0], 1 / INVERSE_TEMPERATURES[-1])
    for one in results:
        if one['temperature'] in ends:
            print(f'{one["name"]}: the temperature is at the end of its range, {ends}.')
    print(f'Written: {work / "calibration.png"}, {work / "calibration.json"}')


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('more', nargs='*', metavar='CONFIG CHECKPOINT', help='further networks')
    parser.add_argument('--names', nargs='+', help='of the networks; default: those of the configs')
    parser.add_argument(
        '--fit-on', choices=list(HOW), default='val-half', help='default: %(default)s; see above'
    )
    args = parser.parse_args(argv)
    words = [args.config, args.checkpoint, *args.more]
    if len(words) % 2:
        parser.error(f'expected CONFIG CHECKPOINT in pairs, but {words[-1]} stands alone')
    if args.launcher != 'none':
        parser.error('expected no --launcher: this tool is one process')
    configs, checkpoints = words[::2], words[1::2]
    names = args.names or [Path(config).stem for config in configs]
    if not args.names and len(set(names)) < len(names):
        names = checkpoints
    if len(names) != len(configs):
        parser.error(f'expected {len(configs)} --names, but got {len(names)}')
    args.networks = list(zip(names, configs, checkpoints, strict=True))
    return args


def main(argv: list[str] | None = None) -> int:
    """Compare; return the exit status."""
    args = parse_args(argv)
    try:
        compare(args)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
