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
        student: (N, C, h, w).
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
        student, teacher = (resized(z.to(dtype), size, align_corners) for z in (student, teacher))
        return cls(student, teacher, valid)


def resized(values: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Resize (N, C, h, w) bilinearly, so that a class at -inf stays out without a NaN.

    Returns fp32 or fp64: half precision does not hold what stands for -inf.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if values.shape[2:] != tuple(size):
        values = F.interpolate(
            values.clamp(min=FLOOR), tuple(size), mode='bilinear', align_corners=align_corners
        )
    return values.clamp(min=EXCLUDED)


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
