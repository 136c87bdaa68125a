"""Generalised Jensen-Shannon divergence between a teacher's and a student's classes."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops._checks import check_share, check_temperature
from balkd_seg.ops._dense import agreement, kl
from balkd_seg.ops._tilewise import Tile, pixel_means


class JensenShannon(NamedTuple):
    """Result of `jensen_shannon`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    teacher_part: Tensor
    student_part: Tensor
    agreement: Tensor
    valid: Tensor


def jensen_shannon(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    ignore_index: int = 255,
    resize: str = 'label',
    align_corners: bool = False,
) -> JensenShannon:
    r"""Compare both distributions with their mixture, which is never far from either.

    .. math::
        L = \tau^2 \, \text{mean} [\beta KL(p \| m) + (1 - \beta) KL(q \| m)],
        \quad m = \beta p + (1 - \beta) q

    p is the teacher's, q the student's softmax over classes at temperature tau; the mean is over
    pixels whose target is not `ignore_index`. At beta 0.5 it is the Jensen-Shannon divergence, at
    most tau^2 log 2. For small beta L / beta tends to forward KL, for beta near 1 L / (1 - beta) to
    reverse KL. The paper has language models and no temperature; tau^2 is ours, as in KD.

    Finite for every logit: a class at -inf in one network costs at most what its mass is worth.
    Computed in fp32 (fp64 for fp64 student logits), tile by tile, so that full-resolution
    probabilities never exist; the student gets a gradient, once. Without a pixel that counts the
    loss is 0 with a zero gradient; identical logits give 0.

    Args:
        student_logits: (N, C, h, w) or (N, C); floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) integer labels, or None if every pixel counts.
        beta: Weight of the teacher in the mixture, in (0, 1).
        temperature: Temperature tau, in (0, inf).
        ignore_index: Target value of pixels that do not count.
        resize: 'label', 'student' or 'none', as in `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        `loss`; detached: `teacher_part`, the mean of tau^2 KL(p||m), `student_part`, that of
        tau^2 KL(q||m), both without beta; `agreement`, the share of pixels where both networks
        name the same class; `valid`, the share of pixels that count.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:
        >>> import torch
        >>> ruled_out = torch.tensor([[0.0, -torch.inf]])
        >>> loss = jensen_shannon(ruled_out, ruled_out.flip(1)).loss
        >>> round(loss.item(), 4)  # log 2: nothing in common
        0.6931

    Reference:
        On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes,
        https://arxiv.org/abs/2306.13649
    """
    check_share('beta', beta)
    check_temperature('temperature', temperature)
    own, other = math.log(beta), math.log1p(-beta)

    def formula(tile: Tile) -> tuple[Tensor, ...]:
        log_q, log_p = (F.log_softmax(z / temperature, 1) for z in (tile.student, tile.teacher))
        log_m = (log_p + own).logaddexp(log_q + other)
        of_teacher, of_student = (temperature**2 * kl(x, log_m) for x in (log_p, log_q))
        loss = beta * of_teacher + (1 - beta) * of_student
        return loss, of_teacher, of_student, agreement(tile.student, tile.teacher)

    means = pixel_means(
        formula,
        student_logits,
        teacher_logits,
        target,
        ignore_index=ignore_index,
        resize=resize,
        align_corners=align_corners,
    )
    return JensenShannon(*means)
