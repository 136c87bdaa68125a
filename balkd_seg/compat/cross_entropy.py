"""mmseg's cross-entropy with class weights, which in 1.2.2 fails on every ignored pixel.

It looks the weight of each label up to know what to divide by, and the ignored label (255) has
none: "index 255 is out of bounds". PIDNet and CGNet, as shipped, cannot train for it.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor


def weight_sum(
    label: Tensor, class_weight: Tensor, ignore_index: int, avg_non_ignore: bool
) -> Tensor:
    """Return what a class-weighted cross-entropy is divided by: the weights of the pixels' labels.

    An ignored label that is no class has no weight, as in PyTorch's own `cross_entropy`. One that
    is a class counts as mmseg has it: with its weight, unless `avg_non_ignore`.

    Args:
        label: (N, H, W), classes or the ignored label.
        class_weight: (C,).
        ignore_index: The label of pixels that do not count.
        avg_non_ignore: As in mmseg's `CrossEntropyLoss`.
    """
    weights = class_weight[label.clamp(0, len(class_weight) - 1)]
    if avg_non_ignore or not 0 <= ignore_index < len(class_weight):
        weights = weights.masked_fill(label == ignore_index, 0)
    return weights.sum()


def mend_class_weights() -> None:
    """Let mmseg's `CrossEntropyLoss` take class weights; calling it again changes nothing."""
    module: Any = import_module('mmseg.models.losses.cross_entropy_loss')
    if not hasattr(module.cross_entropy, '__wrapped__'):
        module.cross_entropy = _mended(module.cross_entropy)


def _mended(cross_entropy: Callable) -> Callable:
    """Return mmseg's function, told what to divide by where it would look up ignored labels."""

    @functools.wraps(cross_entropy)
    def mended(
        pred: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        class_weight: Tensor | None = None,
        reduction: str = 'mean',
        avg_factor: Tensor | float | None = None,
        ignore_index: int = -100,
        avg_non_ignore: bool = False,
    ) -> Tensor:
        if class_weight is not None and reduction == 'mean' and avg_factor is None:
            avg_factor = weight_sum(label, class_weight, ignore_index, avg_non_ignore)
        return cross_entropy(
            pred, label, weight, class_weight, reduction, avg_factor, ignore_index, avg_non_ignore
        )

    return mended
