"""Adaptive KL: forward where the networks differ in the head, reverse where in the tail."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops._checks import check_share, check_temperature
from balkd_seg.ops._dense import agreement, kl
from balkd_seg.ops._tilewise import Tile, pixel_means


class AdaptiveKL(NamedTuple):
    """Result of `adaptive_kl`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    forward: Tensor
    reverse: Tensor
    head_share: Tensor
    agreement: Tensor
    valid: Tensor


def adaptive_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    head_mass: float = 0.5,
    temperature: float = 1.0,
    ignore_index: int = 255,
    resize: str = 'label',
    align_corners: bool = False,
) -> AdaptiveKL:
    r"""Weigh forward and reverse KL of every pixel by where its distributions differ.

    .. math::
        L = \tau^2 \, \text{mean} [a KL(p \| q) + (1 - a) KL(q \| p)],
        \quad a = g_{head} / (g_{head} + g_{tail})

    The head of a pixel are the teacher's likeliest classes whose probabilities add up to at most
    `head_mass`, at least the likeliest one; the tail is the rest; g is the sum of |p - q| over the
    one or the other. a carries no gradient. p is the teacher's, q the student's softmax over
    classes at temperature tau; the mean is over pixels whose target is not `ignore_index`. The
    paper has language models and no temperature; tau, in the gaps as well, and tau^2 are ours.
    Where both networks are identical a is 0/0 in the paper's code; here it is 1/2.

    Computed in fp32 (fp64 for fp64 student logits), tile by tile; the student gets a gradient,
    once. Without a pixel that counts the loss is 0 with a zero gradient; identical logits give 0. A
    class at -inf in one network alone makes the loss inf without a gradient, as in
    `balanced_divergence`.

    Args:
        student_logits: (N, C, h, w) or (N, C); floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) integer labels, or None if every pixel counts.
        head_mass: Probability of the head, in (0, 1).
        temperature: Temperature tau, in (0, inf).
        ignore_index: Target value of pixels that do not count.
        resize: 'label', 'student' or 'none', as in `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        `loss`; detached: `forward` and `reverse`, the means of tau^2 KL without their weights;
        `head_share`, the mean of a; `agreement`, the share of pixels where both networks name the
        same class; `valid`, the share of pixels that count.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:
        >>> teacher = torch.tensor([[0.6, 0.3, 0.1]]).log()
        >>> student = torch.tensor([[0.3, 0.5, 0.2]]).log()
        >>> round(adaptive_kl(student, teacher).head_share.item(), 4)  # 0.3 of 0.3 + 0.2 + 0.1
        0.5

    Reference:
        Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models,
        https://arxiv.org/abs/2404.02657
    """
    check_share('head_mass', head_mass)
    check_temperature('temperature', temperature)

    def formula(tile: Tile) -> tuple[Tensor, ...]:
        log_q, log_p = (F.log_softmax(z / temperature, 1) for z in (tile.student, tile.teacher))
        forward, reverse = (temperature**2 * x for x in (kl(log_p, log_q), kl(log_q, log_p)))
        share = _head_share(log_q.detach().exp(), log_p.exp(), head_mass)
        loss = share * forward + (1 - share) * reverse
        return loss, forward, reverse, share, agreement(tile.student, tile.teacher)

    means = pixel_means(
        formula,
        student_logits,
        teacher_logits,
        target,
        ignore_index=ignore_index,
        resize=resize,
        align_corners=align_corners,
    )
    return AdaptiveKL(*means)


def _head_share(student: Tensor, teacher: Tensor, head_mass: float) -> Tensor:
    """Return the head's part of the gap between probabilities (n, C, ...), (n, ...)."""
    ordered, classes = teacher.sort(dim=1, descending=True, stable=True)
    gap = (ordered - student.gather(1, classes)).abs()
    head = ordered.cumsum(1) <= head_mass
    head[:, 0] = True
    total = gap.sum(1)
    share = torch.where(head, gap, 0).sum(1) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return torch.where(total > 0, share, 0.5)
