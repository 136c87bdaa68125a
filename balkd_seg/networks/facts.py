"""What a network knows of itself, read from it and restated nowhere."""

from typing import Any

import torch
from torch import Tensor, nn

from balkd_seg.datasets.loading import IGNORE_INDEX
from balkd_seg.distillers.taps import logits_head


def ignored_label(network: nn.Module) -> int:
    """Return the label of pixels that do not count for a network: its head's `ignore_index`.

    Args:
        network: An mmseg segmentor. Heads of mask classification have no such setting: what mmseg
            itself takes then is returned.
    """
    return int(getattr(logits_head(network), 'ignore_index', IGNORE_INDEX))


def input_channels(network: nn.Module) -> int:
    """Return how many channels the images have that a network gets from its data preprocessor.

    As many as it has means; where it has none, or one for all, those of the first convolution.

    Args:
        network: An mmseg segmentor.

    Raises:
        ValueError: If neither tells.
    """
    means = getattr(network.data_preprocessor, 'mean', None)
    if isinstance(means, Tensor) and len(means) > 1:
        return len(means)
    backbone: Any = network.backbone
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    raise ValueError(
        f'Expected the number of channels of the images from the means of the data preprocessor or '
        f'the first convolution of the backbone, but {type(backbone).__name__} has neither. Set '
        '`mean` and `std` in data_preprocessor, one for each channel.'
    )


def channel_statistics(preprocessor: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Return the mean and std that a data preprocessor normalises with, (channels, 1, 1) each.

    0 and 1 where it does not normalise.
    """
    mean, std = torch.zeros(1), torch.ones(1)
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean.cpu(), preprocessor.std.cpu()
    return mean.expand(channels, 1, 1), std.expand(channels, 1, 1)
