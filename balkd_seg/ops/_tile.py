r"""Closed-form value and gradient of the balanced divergence on one tile of logits.

Legend: a tile is (B, K, ...) with the softmax over its K axis. With z shifted so that its maximum
is 0, p = teacher, q = student probabilities, S = sum of exponentials, d = z_t - z_s:

    tau_f^2 KL(p||q) = tau_f^2 [sum p d / tau_f - (log S_t - log S_s)]     at tau_f
    tau_r^2 KL(q||p) = tau_r^2 [(log S_t - log S_s) - sum q d / tau_r]     at tau_r
    gradient w.r.t. z_s: w_f tau_f (q - p) - w_r q (d - sum q d)

Writing the reverse part with d - sum q d, rather than with log q - log p, keeps its digits at
logits of 1e4. A class that one network alone excludes makes the divergence in which the other gives
it mass infinite, and then the gradient 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._types import UNBOUNDED, Terms


class Softmax(NamedTuple):
    """Exponentials of the student's shifted logits at one temperature, and both networks' sums."""

    student: Tensor
    student_sum: Tensor
    teacher_sum: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor) -> 'Softmax':
        """Sum the exponentials over classes."""
        return cls(student, student.sum(1, keepdim=True), teacher.sum(1, keepdim=True))

    def log_ratio(self) -> Tensor:
        """Return log S_t - log S_s."""
        return self.teacher_sum.log() - self.student_sum.log()


def divergence_tile(
    student: Tensor, teacher: Tensor, keep: Tensor, terms: Terms, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum the divergences of a tile and give their gradient.

    Args:
        student: (B, K, ...), fp32 or fp64, overwritten.
        teacher: (B, K, ...), overwritten.
        keep: (B, 1, ...), bool: the units that count.
        terms: Weights and temperatures.
        out: Where the gradient goes, (B, K, ...); memory of the tile itself if None.

    Returns:
        (4,) sums of loss, forward, reverse and agreement over kept units; gradient of the loss
        sum w.r.t. the student's logits.
    """
    weight_f, weight_r, tau_f, tau_r = terms
    student.sub_(student.amax(1, keepdim=True))
    teacher.sub_(teacher.amax(1, keepdim=True))
    agreement = (student + teacher).amax(1, keepdim=True) == 0
    gap = teacher - student
    unbounded_f = gap.amax(1, keepdim=True) > UNBOUNDED
    unbounded_r = gap.amin(1, keepdim=True) < -UNBOUNDED
    at_f, at_r = _softmaxes(student, teacher, tau_f, tau_r)
    p = teacher
    pull = (p * gap).sum(1, keepdim=True) / at_f.teacher_sum
    forward = tau_f**2 * (pull / tau_f - at_f.log_ratio())
    mean_gap = (at_r.student * gap).sum(1, keepdim=True) / at_r.student_sum
    reverse = tau_r**2 * (at_r.log_ratio() - mean_gap / tau_r)
    forward.masked_fill_(unbounded_f, torch.inf)
    reverse.masked_fill_(unbounded_r, torch.inf)
    # A term of weight 0 is left out rather than multiplied: it may be infinite.
    parts = ((weight_f, forward), (weight_r, reverse))
    loss = torch.stack([weight * part for weight, part in parts if weight > 0]).sum(0)
    stats = torch.stack(
        [torch.where(keep, x, 0).sum() for x in (loss, forward, reverse, agreement)]
    )
    gradient = _gradient(gap, mean_gap, p, at_f, at_r, terms)
    counts = keep & ~loss.isinf()
    if out is None:
        return stats, gradient.masked_fill_(~counts, 0)
    return stats, torch.where(counts, gradient, gradient.new_zeros(()), out=out)


def _softmaxes(
    student: Tensor, teacher: Tensor, tau_f: float, tau_r: float
) -> tuple[Softmax, Softmax]:
    """Exponentiate at both temperatures, in place; the teacher's tile ends up at tau_f.

    Temperatures with a ratio of 2 take half the exponentials: exp(z / tau) = exp(z / 2 tau)^2.
    """
    if tau_r == 2 * tau_f:
        at_r = Softmax.of(_exp_(student, tau_r), _exp_(teacher, tau_r))
        return Softmax.of(student * student, teacher.square_()), at_r
    if tau_f not in (tau_r, 2 * tau_r):
        at_r = Softmax.of(student.div(tau_r).exp_(), teacher.div(tau_r).exp_())
        return Softmax.of(_exp_(student, tau_f), _exp_(teacher, tau_f)), at_r
    at_f = Softmax.of(_exp_(student, tau_f), _exp_(teacher, tau_f))
    return at_f, at_f if tau_f == tau_r else Softmax.of(student * student, teacher * teacher)


def _exp_(logits: Tensor, temperature: float) -> Tensor:
    return (logits if temperature == 1 else logits.div_(temperature)).exp_()


def _gradient(
    gap: Tensor, mean_gap: Tensor, p: Tensor, at_f: Softmax, at_r: Softmax, terms: Terms
) -> Tensor:
    """Return w_f tau_f (q - p) - w_r q (d - mean d), overwriting `gap` and the exponentials."""
    scale = terms.forward_weight * terms.forward_temperature
    q = at_f.student
    if terms.reverse_weight == 0:
        return q.mul_(scale / at_f.student_sum).sub_(p.mul_(scale / at_f.teacher_sum))
    gap.sub_(mean_gap).mul_(-terms.reverse_weight / at_r.student_sum)
    if terms.forward_weight == 0:
        return gap.mul_(at_r.student)
    if at_r is at_f:
        gap.add_(scale / at_f.student_sum).mul_(q)
    else:
        gap.mul_(at_r.student).add_(q.mul_(scale / at_f.student_sum))
    return gap.sub_(p.mul_(scale / at_f.teacher_sum))
