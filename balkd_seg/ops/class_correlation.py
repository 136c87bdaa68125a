"""DIST: student and teacher need to correlate, not to agree."""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._checks import check_logits, check_part_weights, check_temperature
from balkd_seg.ops._dense import Pair, agreement


class ClassCorrelation(NamedTuple):
    """Result of `class_correlation`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    inter: Tensor
    intra: Tensor
    agreement: Tensor
    valid: Tensor


def class_correlation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: float = 1.0,
    ignore_index: int = 255,
    resize: str = 'label',
    align_corners: bool = False,
) -> ClassCorrelation:
    r"""Take how far the student's probabilities are from a linear function of the teacher's.

    .. math::
        L = \tau^2 [\beta \, \text{mean}_i (1 - r(q_i, p_i))
            + \gamma \, \text{mean}_c (1 - r(q^c, p^c))]

    r is Pearson's correlation; q_i and p_i are a pixel's probabilities of all classes (inter-class
    relation), q^c and p^c those of a class over all pixels of the batch that count (intra-class
    relation), from softmax at temperature tau. r is symmetric: there is no direction to balance.

    Where a network gives equal probabilities (all classes of a pixel, or a class everywhere), there
    is no correlation; the paper's code takes 0 by a small constant in the denominator, which also
    keeps identical networks from exactly 0. Here such a pixel or class is left out of the mean.
    Ignored pixels are left out of both parts.

    Computed in fp32 (fp64 for fp64 student logits). A class's correlation needs every pixel, so
    that this holds probabilities of both networks at the size of comparison, and some fifteen
    tensors of that size for the gradient: compare at the size of the logits where they have one in
    common, as the paper does. Without a pixel that counts the loss is 0 with a zero gradient;
    identical logits give 0.

    Args:
        student_logits: (N, C, h, w) or (N, C); floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) integer labels, or None if every pixel counts.
        inter_weight: Weight beta of the relation between classes, in [0, inf).
        intra_weight: Weight gamma of the relation within classes, in [0, inf); one of the two is
            positive.
        temperature: Temperature tau, in (0, inf).
        ignore_index: Target value of pixels that do not count.
        resize: 'label', 'student' or 'none', as in `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        `loss`; detached: `inter` and `intra`, both means with tau^2, without their weights;
        `agreement`, the share of pixels where both networks name the same class; `valid`, the
        share of pixels that count.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:
        >>> teacher = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
        >>> result = class_correlation((0.5 * teacher + 1 / 6).log(), teacher.log())
        >>> bool(result.loss < 1e-6)  # half as sure, but related alike
        True

    Reference:
        Knowledge Distillation from A Stronger Teacher, https://arxiv.org/abs/2205.10536
    """
    check_part_weights(inter_weight=inter_weight, intra_weight=intra_weight)
    check_temperature('temperature', temperature)
    check_logits(student_logits, teacher_logits, 'classes')
    with torch.autocast(student_logits.device.type, enabled=False):
        if student_logits.ndim == 2:  # samples are images of one pixel
            student_logits, teacher_logits = (
                z[..., None, None] for z in (student_logits, teacher_logits.detach())
            )
            target = None if target is None else target[:, None, None]
        pair = Pair.of(
            student_logits, teacher_logits.detach(), target, ignore_index, resize, align_corners
        )
        q, p = ((z / temperature).softmax(1) for z in (pair.student, pair.teacher))
        keep = pair.valid[:, None]
        num_valid = keep.count_nonzero()
        count = num_valid.clamp(min=1).to(q.dtype)
        inter = _dissimilarity(q, p, torch.ones_like(q), q.shape[1], [1], keep)
        weight = keep.expand_as(q).to(q.dtype)
        intra = _dissimilarity(q, p, weight, count, [0, 2, 3], num_valid > 0)
        inter, intra = (temperature**2 * x for x in (inter, intra))
        used = [w * x for w, x in ((inter_weight, inter), (intra_weight, intra)) if w]
        alike = agreement(pair.student, pair.teacher)[:, None] & keep
        return ClassCorrelation(
            torch.stack(used).sum(),
            inter.detach(),
            intra.detach(),
            alike.count_nonzero() / count,
            num_valid / max(keep.numel(), 1),
        )


def _dissimilarity(
    a: Tensor, b: Tensor, weight: Tensor, count: Tensor | int, dims: list[int], counts: Tensor
) -> Tensor:
    """Return the mean of 1 - Pearson's correlation over units.

    Args:
        a: (N, C, H, W), at least 0.
        b: The same.
        weight: (N, C, H, W), 1 for what belongs to a unit's vector, else 0.
        count: How much belongs to each.
        dims: The dimensions that a unit's vector goes along.
        counts: Which units may count; broadcasts against the sums over `dims`.
    """
    directions = []
    eps = torch.finfo(a.dtype).eps
    for x in (a, b):
        mean = (weight * x).sum(dims, keepdim=True) / count
        centred = weight * (x - mean)
        square = centred.square().sum(dims, keepdim=True)
        # a deviation that rounding alone could have made is none
        varies = ~(square.detach() <= count * (8 * eps * mean.detach()).square())  # NaN shows
        counts = counts & varies
        directions.append(centred * torch.where(varies, square, 1).rsqrt())
    # 1 - r is half the squared distance of unit vectors: exactly 0 for equal ones
    distance = (directions[0] - directions[1]).square().sum(dims, keepdim=True) / 2
    return torch.where(counts, distance, 0).sum() / counts.count_nonzero().clamp(min=1)
