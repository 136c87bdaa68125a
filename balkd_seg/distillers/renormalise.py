"""Give a network the inputs it was trained with, whoever normalised the images."""

from typing import Any

import torch
from torch import Tensor, nn


class Renormalise(nn.Module):
    """Turn images as one data preprocessor makes them into images as another one would.

    `x · std_s + mean_s` undoes the source's normalisation, the target's follows, in its channel
    order. Pixels that were padded are converted like the others; their labels are ignored.

    Args:
        source: The `SegDataPreProcessor` that makes the images.
        target: That of the network that gets them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, source: nn.Module, target: nn.Module) -> None:
        super().__init__()
        mean_s, std_s = (x.cpu() for x in _channel_statistics(source))
        mean_t, std_t = (x.cpu() for x in _channel_statistics(target))
        self.flip = converts_channels(source) != converts_channels(target)
        if self.flip:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.same = not self.flip and torch.equal(mean_s, mean_t) and torch.equal(std_s, std_t)
        self.register_buffer('scale', std_s / std_t, persistent=False)
        self.register_buffer('shift', (mean_s - mean_t) / std_t, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Convert images (N, 3, H, W)."""
        if self.same:
            return inputs
        return (inputs.flip(1) if self.flip else inputs) * self.scale + self.shift


def converts_channels(preprocessor: Any) -> bool:
    """Return whether a data preprocessor turns BGR into RGB (or back) before it normalises.

    Raises:
        ValueError: If it does not tell: a silent guess would give a teacher wrong colours.
    """
    for name in (
        'channel_conversion',
        '_channel_conversion',
    ):  # mmseg's, and mmengine's and onedl's
        if hasattr(preprocessor, name):
            return bool(getattr(preprocessor, name))
    raise ValueError(
        'Expected a data preprocessor that tells by `channel_conversion` or `_channel_conversion` '
        f'whether it changes the order of channels, but got {type(preprocessor).__name__} with '
        'neither. Use SegDataPreProcessor or one derived from it.'
    )


def _channel_statistics(preprocessor: Any) -> tuple[Tensor, Tensor]:
    """Return mean and std of shape (3, 1, 1); 0 and 1 where a preprocessor does not normalise."""
    if getattr(preprocessor, '_enable_normalize', False):
        return preprocessor.mean, preprocessor.std
    return torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
