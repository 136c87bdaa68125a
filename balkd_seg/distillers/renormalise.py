"""Give a network the inputs it was trained with, whoever normalised the images."""

from typing import Any

import torch
from mmseg.models.segmentors import BaseSegmentor
from torch import Tensor, nn

from balkd_seg.networks.facts import channel_statistics, input_channels


class Renormalise(nn.Module):
    """Turn images as one data preprocessor makes them into images as another one would.

    `x · std_s + mean_s` undoes the source's normalisation, the target's follows, in its channel
    order. Pixels that were padded are converted like the others; their labels are ignored.

    Args:
        source: The `SegDataPreProcessor` that makes the images.
        target: That of the network that gets them.
        channels: How many the images have.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, source: nn.Module, target: nn.Module, channels: int) -> None:
        super().__init__()
        mean_s, std_s = channel_statistics(source, channels)
        mean_t, std_t = channel_statistics(target, channels)
        # mmseg's preprocessor leaves images alone that do not have three channels
        self.flip = channels == 3 and converts_channels(source) != converts_channels(target)
        if self.flip:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.same = not self.flip and torch.equal(mean_s, mean_t) and torch.equal(std_s, std_t)
        self.register_buffer('scale', std_s / std_t, persistent=False)
        self.register_buffer('shift', (mean_s - mean_t) / std_t, persistent=False)

    @classmethod
    def between(cls, student: BaseSegmentor, other: BaseSegmentor, role: str) -> 'Renormalise':
        """Return what makes a student's images those of another network.

        Args:
            student: An mmseg segmentor, whose data preprocessor makes the images.
            other: The one that gets them.
            role: Its name in messages: `'teacher'`.

        Raises:
            ValueError: If the networks take images of other channels.
        """
        made, taken = input_channels(student), input_channels(other)
        if made != taken:
            raise ValueError(
                f'Expected the {role} and the student to take the same images, but the {role} '
                f'({type(other.backbone).__name__}) takes {taken} channels and the student '
                f'({type(student.backbone).__name__}) {made}. Take a {role} that was trained on '
                'the same bands.'
            )
        return cls(student.data_preprocessor, other.data_preprocessor, made)

    def forward(self, inputs: Tensor) -> Tensor:
        """Convert images (N, channels, H, W)."""
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
