"""Time a step of mutual training against the plain training steps of its networks.

A step is what an iteration does with a batch that is loaded: forward, losses, backward, SGD. The
networks alone are stock mmseg models of the same configs. Steps take turns in one process, on
random images and labels. Runs on the GPU if there is one.
"""

from collections.abc import Callable
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import torch
from benchmark_steps import make_row, options, report, take_turns
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import Tensor, nn

from balkd_seg.distillers import MutualDistiller
from balkd_seg.kinds import is_kind
from balkd_seg.networks.build import network_config
from balkd_seg.networks.facts import ignored_label, input_channels

CONFIG = 'configs/bdkd/bdkd_pspnet-r101-with-pspnet-r18_4xb2-80k_cityscapes-512x1024.py'


def make_batch(
    num: int, size: tuple[int, int], network: BaseSegmentor, device: str
) -> tuple[Tensor, list[SegDataSample]]:
    """Return images (num, channels, H, W) and data samples, a tenth of the labels ignored."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num, input_channels(network), *size, generator=generator).to(device)
    labels = torch.randint(network.num_classes, (num, 1, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = ignored_label(network)
    return images, [SegDataSample(gt_sem_seg=PixelData(data=label.to(device))) for label in labels]


def make_step(model: nn.Module, batch: tuple[Tensor, list], device: str) -> Callable[[], None]:
    """Return a function that trains a model on a batch once."""
    model = revert_sync_batchnorm(model).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        loss, _ = model.parse_losses(model.loss(*batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def make_steps(
    cfg: Config, num: int, size: tuple[int, int], device: str
) -> dict[str, Callable[[], None]]:
    """Return the steps to compare, by name: every network alone, then together.

    Args:
        cfg: Of a MutualDistiller.
        num: Images of a batch.
        size: Their (H, W).
        device: Where.
    """
    model = cfg.model
    for network in (model.student, *model.peers.values()):
        network.update(pretrained=None)  # nothing to download; weights do not matter here
    alone = {n: MODELS.build(network_config(cfg, n)) for n in ('student', *model.peers)}
    batch = make_batch(num, size, alone['student'], device)
    steps = {name: make_step(network, batch, device) for name, network in alone.items()}
    given = {'data_preprocessor': cfg.get('data_preprocessor'), **model}
    for name, fuse in (('together', False), ('together, fuse_task_loss', True)):
        distiller = MODELS.build({**given, 'fuse_task_loss': fuse})
        distiller.distill_terms.are_stored = True  # there is no checkpoint to warn about
        steps[name] = make_step(distiller, batch, device)
    return steps


def summarise(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row for each step, with its ratio to the networks alone."""
    alone = [name for name in times if not name.startswith('together')]
    plain = [sum(values) for values in zip(*(times[name] for name in alone), strict=True)]
    every = {**times, 'sum of the plain steps': plain}
    return [make_row(name, values, plain) for name, values in every.items()]


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = options(__doc__, CONFIG, (512, 1024))
    parser.add_argument('--batch', type=int, default=2, help='images; default 2')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    cfg = Config.fromfile(args.config)
    if not is_kind(cfg.model, MODELS, MutualDistiller):
        raise SystemExit(f'expected a config of a MutualDistiller, but {args.config} is not one')
    steps = make_steps(cfg, args.batch, (args.size[0], args.size[1]), device)
    report(args, device, summarise(take_turns(steps, args.rounds, device)))


if __name__ == '__main__':
    main()
