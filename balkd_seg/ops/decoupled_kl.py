"""Decoupled KL: what a teacher says of the labelled class, and of the others, apart."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops._checks import check_decoupling, check_temperature
from balkd_seg.ops._dense import agreement, kl
from balkd_seg.ops._tilewise import Tile, pixel_means
from balkd_seg.ops._types import EXCLUDED


class DecoupledKL(NamedTuple):
    """Result of `decoupled_kl`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    target_class: Tensor
    other_classes: Tensor
    agreement: Tensor
    valid: Tensor


def decoupled_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None,
    *,
    alpha: float = 1.0,
    beta: float = 0.5,
    temperature: float = 1.0,
    ignore_index: int = 255,
    resize: str = 'label',
    align_corners: bool = False,
    teacher_gradient: bool = False,
) -> DecoupledKL:
    r"""Weigh the two parts that forward KL consists of independently of the teacher's confidence.

    .. math::
        L = \tau^2 \, \text{mean} [\alpha KL(b_p \| b_q) + \beta KL(\hat p \| \hat q)]

    With the label y of a pixel, b = (p_y, 1 - p_y) is the binary distribution of the labelled
    class and \hat p the softmax over all other classes, p the teacher's, q the student's at
    temperature tau. KL(p||q) is the same with alpha = 1 and 1 - p_y in place of beta, so that a
    confident teacher's knowledge of the other classes hardly counts there. The mean is over pixels
    whose target is not `ignore_index`; the paper has one label an image.

    Both parts come from logits without subtracting probabilities (log(1 - p_y) is a log-sum-exp
    over the others), so that they stay exact for confident networks. Computed in fp32 (fp64 for
    fp64 student logits), tile by tile; the student gets a gradient, once, the teacher on request.
    Without a pixel that counts the loss is 0 with a zero gradient; identical logits give 0. A class
    at -inf in the student alone makes the loss inf without a gradient, as in
    `balanced_divergence`.

    Args:
        student_logits: (N, C, h, w) or (N, C); floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) integer labels; the operation needs them. A label that is no
            class makes the loss NaN. Where `resize` is not 'label', reduced by nearest.
        alpha: Weight of the labelled class's part, in [0, inf).
        beta: Weight of the other classes' part, in [0, inf); one of the two is positive.
        temperature: Temperature tau, in (0, inf).
        ignore_index: Target value of pixels that do not count.
        resize: 'label', 'student' or 'none', as in `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.
        teacher_gradient: Whether the teacher gets a gradient too.

    Returns:
        `loss`; detached: `target_class` and `other_classes`, the means of both parts with tau^2,
        without their weights; `agreement`, the share of pixels where both networks name the same
        class; `valid`, the share of pixels that count.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
        >>> result = decoupled_kl(student, teacher, torch.tensor([0]))
        >>> round(result.target_class.item(), 4), result.other_classes.item()
        (0.1233, 0.0)

    Reference:
        Decoupled Knowledge Distillation, https://arxiv.org/abs/2203.08679
    """
    check_decoupling(alpha, beta, target)
    check_temperature('temperature', temperature)

    def formula(tile: Tile) -> tuple[Tensor, ...]:
        assert tile.label is not None
        num_classes = tile.student.shape[1]
        label = tile.label.clamp(0, num_classes - 1)[:, None]
        (binary_q, others_q), (binary_p, others_p) = (
            _split(z / temperature, label) for z in (tile.student, tile.teacher)
        )
        parts = (kl(binary_p, binary_q), kl(others_p, others_q))
        known = label[:, 0] == tile.label
        of_label, of_others = (
            torch.where(known, temperature**2 * part, torch.nan) for part in parts
        )
        used = [w * x for w, x in ((alpha, of_label), (beta, of_others)) if w]
        loss = torch.stack(used).sum(0)
        return loss, of_label, of_others, agreement(tile.student, tile.teacher)

    means = pixel_means(
        formula,
        student_logits,
        teacher_logits,
        target,
        ignore_index=ignore_index,
        resize=resize,
        align_corners=align_corners,
        teacher_gradient=teacher_gradient,
    )
    return DecoupledKL(*means)


def _split(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of (p_y, 1 - p_y), (n, 2, ...), and of the softmax over the others.

    Args:
        logits: (n, C, ...), divided by the temperature.
        label: (n, 1, ...), classes.
    """
    log_p = F.log_softmax(logits, 1)
    others = logits.scatter(1, label, EXCLUDED)
    rest = log_p.scatter(1, label, EXCLUDED).logsumexp(1, keepdim=True)
    return torch.cat((log_p.gather(1, label), rest), 1), F.log_softmax(others, 1)
