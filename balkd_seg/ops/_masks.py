"""Which pixels count."""

from collections.abc import Sequence

import torch
from torch import Tensor


def valid_pixels(
    student_logits: Tensor, target: Tensor | None, ignore_index: int, resize: str
) -> Tensor:
    """Return True where a pixel counts, in the size that the divergence is taken at.

    Args:
        student_logits: (N, C, h, w) or (N, C).
        target: (N, H, W) or (N,) labels, or None if everything counts.
        ignore_index: The label that does not count.
        resize: As in `balanced_divergence`.

    Returns:
        (N, H, W) bool, (N, h, w) unless `resize` is 'label', or (N,).
    """
    num, _, *size = student_logits.shape
    if target is None:
        return torch.ones((), dtype=torch.bool, device=student_logits.device).expand(num, *size)
    valid = not_ignored(target, ignore_index)
    return valid if resize == 'label' else reduce_labels(valid, size)


def not_ignored(labels: Tensor, ignore_index: int) -> Tensor:
    """Return where integer labels are not `ignore_index`, which their dtype need not hold."""
    limits = torch.iinfo(labels.dtype)
    if not limits.min <= ignore_index <= limits.max:  # comparing would wrap it around
        return torch.ones_like(labels, dtype=torch.bool)
    return labels != ignore_index


def reduce_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Reduce (N, H, W) labels or masks to (N, *size) by nearest, and leave (N,) as they are."""
    for dim, length in enumerate(size, start=1):
        labels = labels.index_select(dim, _nearest(labels.shape[dim], length, labels.device))
    return labels


def _nearest(num_inputs: int, num_outputs: int, device: torch.device) -> Tensor:
    """Return the input index of every output, as `F.interpolate(mode='nearest')` takes it."""
    return torch.arange(num_outputs, device=device) * num_inputs // num_outputs
