"""The definition of the balanced divergence: plain PyTorch, differentiable any number of times.

Every other implementation is held to its values and gradients. Nobody speeds it up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops._types import EXCLUDED, FLOOR, UNBOUNDED, Sums, Terms


def reference(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    terms: Terms,
    *,
    softmax_axis: str,
    align_corners: bool,
) -> Sums:
    """Sum the divergences of all softmax units; see `balanced_divergence` for the equation.

    Args:
        student_logits: (N, C, h, w), float.
        teacher_logits: (N, C, h', w'), float.
        valid: (N, H, W), bool, the pixels that count; both logits are resized to it.
        terms: Weights and temperatures.
        softmax_axis: 'classes' or 'positions'.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        Sums over units, and how many units count. Both logits receive gradients.
    """
    dtype, size = torch.promote_types(student_logits.dtype, torch.float32), valid.shape[1:]
    s, t = (z.to(dtype).clamp(min=FLOOR) for z in (student_logits, teacher_logits))
    s, t = (F.interpolate(z, size, None, 'bilinear', align_corners) for z in (s, t))
    s, t = (z.clamp(min=EXCLUDED) for z in (s, t))
    unit_valid = valid
    if softmax_axis == 'positions':  # a unit is the (N, H*W, C) column of one channel
        s, t = (z.masked_fill(~valid[:, None], EXCLUDED).flatten(2).mT for z in (s, t))
        unit_valid = valid.flatten(1).any(1, keepdim=True).expand(-1, student_logits.shape[1])

    def kl(a: Tensor, b: Tensor, temperature: float) -> Tensor:
        log_a, log_b = F.log_softmax(a / temperature, 1), F.log_softmax(b / temperature, 1)
        divergence = temperature**2 * (log_a.exp() * (log_a - log_b)).sum(1)
        return torch.where((a - b > UNBOUNDED).any(1), torch.inf, divergence)

    forward = kl(t, s, terms.forward_temperature)
    reverse = kl(s, t, terms.reverse_temperature)
    parts = ((terms.forward_weight, forward), (terms.reverse_weight, reverse))
    loss = torch.stack([weight * part for weight, part in parts if weight > 0]).sum(0)
    loss = torch.where(loss.isinf(), torch.inf, loss)  # such a unit sends no gradient
    at_peak = (s == s.amax(1, keepdim=True)) & (t == t.amax(1, keepdim=True))
    loss, forward, reverse, agreement = (
        torch.where(unit_valid, x, 0).sum() for x in (loss, forward, reverse, at_peak.any(1))
    )
    return Sums(loss, forward, reverse, agreement, unit_valid.sum())
