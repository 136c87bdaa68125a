"""Attention transfer: the student looks where the teacher looks."""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._checks import check_features
from balkd_seg.ops._dense import Pair


class AttentionTransfer(NamedTuple):
    """Result of `attention_transfer`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    cosine: Tensor
    valid: Tensor


def attention_transfer(
    student_features: Tensor,
    teacher_features: Tensor,
    target: Tensor | None = None,
    *,
    ignore_index: int = 255,
    resize: str = 'student',
    align_corners: bool = False,
) -> AttentionTransfer:
    r"""Compare where both networks' features are strong, whatever their channels.

    .. math::
        L = \frac{1}{N} \sum_{n} \frac{1}{2} \left\|
            \frac{a_n}{\|a_n\|} - \frac{b_n}{\|b_n\|} \right\|^2 = 1 - \text{mean} \cos(a_n, b_n)

    a_ni is the mean of the squared features of the student over the channels at place i of image
    n, b the teacher's: the paper's sum of |A|^p at its choice p = 2. Places are those whose label
    is not ignored (ours). The paper's equation has the norm, its code the mean of squares over
    places, which a weight of 10^3 makes up for; the sum of squares is the same loss with a weight
    that does not depend on the size of the map: w in that code is 2 w / A here, for maps of A
    places. Maps of different sizes are compared by resizing the teacher's, which is ours too.

    Computed in fp32 (fp64 for fp64 student features), at the size of the features. The student gets
    a gradient. An image without a place that counts, or where a network's features are 0
    everywhere, is left out of the mean; without any other the loss is 0 with a zero gradient.
    Identical maps give 0.

    Args:
        student_features: (N, C, h, w); floating.
        teacher_features: (N, C', h', w'), of any number of channels; floating.
        target: (N, H, W) integer labels, or None if every place counts.
        ignore_index: Target value of places that do not count.
        resize: 'student' (the teacher's map is resized), 'none' or 'label', as in
            `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        `loss`; detached: `cosine`, the mean over images of the cosine of both maps; `valid`, the
        share of places that count.

    Raises:
        ValueError: If shapes do not fit together.

    Example:
        >>> student = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
        >>> attention_transfer(student, 7 * student.flip(3)).loss  # (1, 0) and (0, 1)
        tensor(1.)

    Reference:
        Paying More Attention to Attention: Improving the Performance of Convolutional Neural
        Networks via Attention Transfer, https://arxiv.org/abs/1612.03928
    """
    check_features(student_features, teacher_features, same_channels=False)
    with torch.autocast(student_features.device.type, enabled=False):
        dtype = torch.promote_types(student_features.dtype, torch.float32)
        student, teacher = (
            _strength(z.to(dtype)) for z in (student_features, teacher_features.detach())
        )
        pair = Pair.of(student, teacher, target, ignore_index, resize, align_corners)
        keep = pair.valid.flatten(1)
        num_valid = keep.count_nonzero()
        rows = [torch.where(keep, z.flatten(1), 0) for z in (pair.student, pair.teacher)]
        peaks = [row.detach().amax(1, keepdim=True) for row in rows]
        seen = (peaks[0] != 0) & (peaks[1] != 0)  # NaN is seen
        a, b = (_unit(row, peak, seen) for row, peak in zip(rows, peaks, strict=True))
        count = seen.count_nonzero().clamp(min=1)
        loss = (a - b).square().sum() / 2 / count
        cosine = (a * b).detach().sum() / count
        return AttentionTransfer(loss, cosine, num_valid / max(keep.numel(), 1))


def _strength(features: Tensor) -> Tensor:
    """Return the mean square over channels, (N, 1, h, w); NaN without a gradient where one is."""
    broken = ~features.isfinite()
    strength = features.masked_fill(broken, 0).square().mean(1, keepdim=True)
    return strength.masked_fill(broken.any(1, keepdim=True), torch.nan)


def _unit(row: Tensor, peak: Tensor, seen: Tensor) -> Tensor:
    """Return maps (N, P) at norm 1, or 0 where they are not `seen`; without overflow by `peak`."""
    scaled = torch.where(seen, row / torch.where(seen, peak, 1), 0)
    norm = torch.where(seen, scaled.square().sum(1, keepdim=True), 1).sqrt()
    return scaled / norm
