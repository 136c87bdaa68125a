"""What dense losses share before their own equation: sizes, precision, and what counts.

Legend: N images, C channels, (h, w) size of an output, (H, W) of the label.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops._checks import check_choice, check_target
from balkd_seg.ops._masks import valid_pixels
from balkd_seg.ops._types import EXCLUDED, FLOOR, UNBOUNDED


class Pair(NamedTuple):
    """Outputs of both networks at one size, in fp32 or fp64, and what counts of them.

    Attributes:
        student: (N, C, h, w), 0 where nothing counts, whatever the network says there.
        teacher: (N, C', h, w).
        valid: (N, h, w) bool.
    """

    student: Tensor
    teacher: Tensor
    valid: Tensor

    @classmethod
    def of(
        cls,
        student: Tensor,
        teacher: Tensor,
        target: Tensor | None,
        ignore_index: int,
        resize: str,
        align_corners: bool,
    ) -> 'Pair':
        """Bring outputs (N, C, h, w) and (N, C', h', w') to the size that `resize` names.

        Raises:
            ValueError: If the sizes cannot be reconciled.
        """
        check_choice('resize', resize, ('label', 'none', 'student'))
        check_target(student, teacher, target, resize)
        valid = valid_pixels(student, target, ignore_index, resize)
        size, dtype = valid.shape[1:], torch.promote_types(student.dtype, torch.float32)
        student, teacher = (
            resized(z.to(dtype), size, align_corners).masked_fill(~valid[:, None], 0)
            for z in (student, teacher)
        )
        return cls(student, teacher, valid)


def resized(values: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Resize (N, C, h, w) bilinearly; a class is excluded from pixels that a -inf has a share in.

    A share is a weight larger than 0. NaN and +inf make the pixels NaN that they have a share in,
    and no other ones. Returns fp32 or fp64: half precision does not hold what stands for -inf.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if values.shape[2:] != tuple(size):
        excluded, broken = values <= FLOOR, ~(values < torch.inf)
        values = values.masked_fill(excluded | broken, 0)
        values = F.interpolate(values, tuple(size), None, 'bilinear', align_corners)
        values = values.masked_fill(_reached(excluded, size, align_corners), EXCLUDED)
        values = values.masked_fill(_reached(broken, size, align_corners), torch.nan)
    return values.clamp(min=EXCLUDED)


def _reached(marked: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Return which outputs (N, C, H, W) a marked input (N, C, h, w) has a share in.

    By integers: rounded as in `F.interpolate` a weight of 0 may come out above.
    """
    for dim, num_outputs in enumerate(size, start=2):
        num_inputs, outputs = marked.shape[dim], torch.arange(num_outputs, device=marked.device)
        if align_corners:
            position, unit = outputs * (num_inputs - 1), max(num_outputs - 1, 1)
        else:
            position = ((2 * outputs + 1) * num_inputs - num_outputs).clamp(min=0)
            unit = 2 * num_outputs
        low, high = position // unit, (position + unit - 1) // unit
        pair = (marked.index_select(dim, x.clamp(max=num_inputs - 1)) for x in (low, high))
        marked = torch.stack(list(pair)).any(0)
    return marked


def kl(log_p: Tensor, log_q: Tensor, dim: int = 1) -> Tensor:
    """Return KL(p||q) over a dimension.

    inf, without a gradient, where q excludes what p does not.
    """
    gap = log_p - log_q
    divergence = (log_p.exp() * gap).sum(dim)
    return torch.where((gap > UNBOUNDED).any(dim), torch.inf, divergence)


def agreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Return where both networks peak at the same class of dimension 1; a tie counts."""
    peaks = (student == student.amax(1, keepdim=True)) & (teacher == teacher.amax(1, keepdim=True))
    return peaks.any(1)
