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
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import Tensor, nn

from balkd_seg.distillers.model_config import resolve_model_config

CONFIG = 'configs/bdkd/bdkd_pspnet-r101-with-pspnet-r18_4xb2-80k_cityscapes-512x1024.py'


def make_batch(
    num: int, size: tuple[int, int], num_classes: int, device: str
) -> tuple[Tensor, list[SegDataSample]]:
    """Return images (num, 3, H, W) and data samples, a tenth of the labels ignored."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num, 3, *size, generator=generator).to(device)
    labels = torch.randint(num_classes, (num, 1, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
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


def make_steps(model: ConfigDict, batch: tuple[Tensor, list], device: str) -> dict[str, Any]:
    """Return the steps to compare, by name: every network alone, then together.

    Args:
        model: Of a MutualDistiller.
        batch: What `make_batch` returns.
        device: Where.
    """
    for network in (model.student, *model.peers.values()):
        network.update(pretrained=None)  # nothing to download; weights do not matter here
    alone = {'student': model.student, **model.peers}
    steps = {
        name: make_step(MODELS.build(resolve_model_config(config, name)), batch, device)
        for name, config in alone.items()
    }
    for name, fuse in (('together', False), ('together, fuse_task_loss', True)):
        distiller = MODELS.build({**model, 'fuse_task_loss': fuse})
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
    model = Config.fromfile(args.config).model
    if model.type != 'MutualDistiller':
        raise SystemExit(f'expected a config of a MutualDistiller, but {args.config} is not one')
    classes = resolve_model_config(model.student, 'student').decode_head.num_classes
    batch = make_batch(args.batch, (args.size[0], args.size[1]), classes, device)
    times = take_turns(make_steps(model, batch, device), args.rounds, device)
    report(args, device, summarise(times))


if __name__ == '__main__':
    main()
