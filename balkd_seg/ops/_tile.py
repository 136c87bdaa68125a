r"""Closed-form values and gradients of the loss on one tile of logits.

Legend: a tile is (B, K, ...) with the softmax over its K axis. With z shifted so that its maximum
is 0, p = teacher, q = student probabilities, S = sum of exponentials, d = z_t - z_s:

    tau_f^2 KL(p||q) = tau_f^2 [sum p d / tau_f - (log S_t - log S_s)]     at tau_f
    tau_r^2 KL(q||p) = tau_r^2 [(log S_t - log S_s) - sum q d / tau_r]     at tau_r
    CE               = log S_s - z_s[label]                                at temperature 1
    gradient w.r.t. z_s: k_f tau_f (q - p) - k_r q (d - sum q d) + k_c (q - onehot)

Writing the reverse part with d - sum q d, rather than with log q - log p, keeps its digits at
logits of 1e4. A class that one network alone excludes makes the divergence in which the other gives
it mass infinite, and then the gradient 0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._types import UNBOUNDED, Terms, Weighting, entropy_weights


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


class Task(NamedTuple):
    """The cross-entropy of a tile.

    Attributes:
        label: (B, 1, ...), int64 classes.
        weight: (B, 1, ...), class weights, 0 where a unit does not count.
        known: (B, 1, ...), whether the label is a class; `weight` is 0 if not.
    """

    label: Tensor
    weight: Tensor
    known: Tensor


def loss_tile(
    student: Tensor,
    teacher: Tensor,
    keep: Tensor,
    coefficients: Tensor,
    terms: Terms,
    weighting: Weighting,
    task: Task | None = None,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum the loss terms of a tile and give the gradient of their weighted sum.

    Args:
        student: (B, K, ...), fp32 or fp64, overwritten.
        teacher: (B, K, ...), overwritten.
        keep: (B, 1, ...), bool: the units that count.
        coefficients: (B, 3, 1, ...) or (1, 3, 1, ...): k_f, k_r, k_c.
        terms: Temperatures; a weight of 0 leaves its term out of the gradient.
        weighting: By entropy; 'pixel' weighs each unit.
        task: What the cross-entropy needs, or None to go without.
        out: Where the gradient goes, (B, K, ...); memory of the tile itself if None.

    Returns:
        The sums of a `Solution` over kept units, (B, 5) or with a weighting (B, 9); gradient of the
        loss w.r.t. the student's logits.
    """
    tau_f, tau_r = terms.forward_temperature, terms.reverse_temperature
    student.sub_(student.amax(1, keepdim=True))
    teacher.sub_(teacher.amax(1, keepdim=True))
    agreement = (student + teacher).amax(1, keepdim=True) == 0
    value = correct = torch.zeros_like(keep)
    task_gradient = None
    if task is not None:
        value, correct, task_gradient = _cross_entropy(student, task, coefficients[:, 2:])
    entropies = None
    if weighting.granularity != 'none':
        entropies = torch.stack([entropy(z, weighting.temperature) for z in (student, teacher)])
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
    parts = [forward, reverse, value, agreement, correct]
    if entropies is not None:
        forward_factor, reverse_factor = entropy_weights(entropies, weighting.delta)
        parts += [*entropies, forward_factor * forward, reverse_factor * reverse]
        factors = (forward_factor, reverse_factor)
        coefficients = torch.cat([coefficients[:, i : i + 1] * x for i, x in enumerate(factors)], 1)
    sums = torch.stack([torch.where(keep, x, 0).flatten(1).sum(1).to(gap.dtype) for x in parts], 1)
    # A term of weight 0 cannot make the loss infinite.
    infinite = (unbounded_f & (terms.forward_weight > 0)) | (
        unbounded_r & (terms.reverse_weight > 0)
    )
    coefficients = torch.where(infinite, 0, coefficients[:, :2])
    gradient = _gradient(gap, mean_gap, p, at_f, at_r, coefficients, terms)
    if task_gradient is not None:
        gradient.add_(task_gradient)
    if out is None:
        out = gradient
    # what a unit that does not count holds must not matter, not even NaN
    return sums, torch.where(keep, gradient, gradient.new_zeros(()), out=out)


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """Return the entropy of the softmax over dimension 1, which is kept, in nats."""
    shifted = (logits - logits.amax(1, keepdim=True)).div_(temperature)
    exponentials = shifted.exp()
    norm = exponentials.sum(1, keepdim=True)
    return norm.log() - shifted.mul_(exponentials).sum(1, keepdim=True) / norm


def _cross_entropy(student: Tensor, task: Task, coefficient: Tensor) -> tuple[Tensor, ...]:
    """Return weighted values, hits and the gradient of the cross-entropy; logits shifted to 0."""
    exponentials = student.exp()
    summed = exponentials.sum(1, keepdim=True)
    at_label = student.gather(1, task.label)
    value = summed.log() - at_label
    infinite = (value > UNBOUNDED) & (task.weight > 0)  # a class of weight 0 does not count
    scale = torch.where(infinite, 0, task.weight * coefficient)
    gradient = exponentials.mul_(scale / summed)
    gradient.scatter_add_(1, task.label, -scale)
    value = torch.where(infinite, torch.inf, task.weight * value)
    value = value.masked_fill(~task.known, torch.nan)
    return value, (at_label == 0) & task.known, gradient


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
    gap: Tensor,
    mean_gap: Tensor,
    p: Tensor,
    at_f: Softmax,
    at_r: Softmax,
    coefficients: Tensor,
    terms: Terms,
) -> Tensor:
    """Return k_f tau_f (q - p) - k_r q (d - mean d), overwriting `gap` and the exponentials."""
    scale = coefficients[:, 0:1] * terms.forward_temperature
    q = at_f.student
    if terms.reverse_weight == 0:
        return q.mul_(scale / at_f.student_sum).sub_(p.mul_(scale / at_f.teacher_sum))
    gap.sub_(mean_gap).mul_(-coefficients[:, 1:2] / at_r.student_sum)
    if terms.forward_weight == 0:
        return gap.mul_(at_r.student)
    if at_r is at_f:
        gap.add_(scale / at_f.student_sum).mul_(q)
    else:
        gap.mul_(at_r.student).add_(q.mul_(scale / at_f.student_sum))
    return gap.sub_(p.mul_(scale / at_f.teacher_sum))
