"""The definition of the balanced divergence: plain PyTorch, differentiable any number of times.

Every other implementation is held to its values and gradients. Nobody speeds it up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops._dense import resized
from balkd_seg.ops._types import EXCLUDED, UNBOUNDED, Problem, entropy_weights


def reference(
    student_logits: Tensor, teacher_logits: Tensor, problem: Problem
) -> tuple[Tensor, Tensor]:
    """Sum the terms of the loss; see `balanced_divergence` for the equations.

    Args:
        student_logits: (N, C, h, w), float.
        teacher_logits: (N, C, h', w'), float.
        problem: What is asked for.

    Returns:
        The loss, which sends gradients to both logits, and the sums of a `Solution`.
    """
    dtype, size = problem.coefficients.dtype, problem.valid.shape[1:]
    s, t = (z.to(dtype) for z in (student_logits, teacher_logits))
    s, t = (resized(z, size, problem.align_corners) for z in (s, t))
    units = problem.valid
    nothing = EXCLUDED if problem.positions else 0.0  # whatever an ignored pixel holds
    s, t = (z.masked_fill(~units[:, None], nothing) for z in (s, t))
    if problem.positions:  # a unit is the (N, H*W, C) column of one channel
        s, t = (z.flatten(2).mT for z in (s, t))
        units = units.flatten(1).any(1, keepdim=True).expand(-1, s.shape[2])

    def kl(a: Tensor, b: Tensor, temperature: float) -> Tensor:
        log_a, log_b = F.log_softmax(a / temperature, 1), F.log_softmax(b / temperature, 1)
        divergence = temperature**2 * (log_a.exp() * (log_a - log_b)).sum(1)
        return torch.where((a - b > UNBOUNDED).any(1), torch.inf, divergence)

    terms, k = problem.terms, problem.coefficients.view(-1, 3, *[1] * (units.ndim - 1))
    forward, reverse = kl(t, s, terms.forward_temperature), kl(s, t, terms.reverse_temperature)
    used = terms.forward_weight > 0, terms.reverse_weight > 0
    weighted = (forward, reverse)
    entropies: list[Tensor] = []
    if problem.weighting.granularity != 'none':
        entropies = [_entropy(z.detach(), problem.weighting.temperature) for z in (s, t)]
        of_sample = torch.stack(entropies)
        if problem.weighting.granularity == 'image':
            mask = units.expand_as(of_sample[0])
            of_sample = torch.where(mask, of_sample, 0).flatten(2).sum(2)
            of_sample = of_sample.view(*of_sample.shape, *[1] * (units.ndim - 1))
        factors = entropy_weights(of_sample, problem.weighting.delta)
        weighted = (factors[0] * forward, factors[1] * reverse)
    divergences = [k[:, i] * x for i, x in enumerate(weighted) if used[i]]
    losses = [torch.stack(divergences).sum(0)]
    entropy = correct = torch.zeros_like(forward)
    if problem.target is not None:
        target = problem.target.masked_fill(~units, 0).long()
        classes = target.clamp(0, s.shape[1] - 1)
        known = target == classes
        entropy = F.cross_entropy(s, classes, reduction='none')
        weight = 1 if problem.class_weight is None else problem.class_weight[classes]
        infinite = (entropy > UNBOUNDED) & (weight > 0)
        entropy = torch.where(infinite, torch.inf, weight * entropy)
        entropy = torch.where(known, entropy, torch.nan)
        losses.append(k[:, 2] * entropy)
        correct = (s.gather(1, classes[:, None])[:, 0] == s.amax(1)) & known
    losses = [torch.where(x.isinf(), torch.inf, x) for x in losses]  # which sends no gradient
    at_peak = (s == s.amax(1, keepdim=True)) & (t == t.amax(1, keepdim=True))
    sums = [forward, reverse, entropy, at_peak.any(1), correct]
    if entropies:
        sums += [*entropies, *weighted]
    columns = [torch.where(units, x, 0).flatten(1).sum(1).to(dtype) for x in sums]
    loss = torch.stack([torch.where(units, x, 0).sum() for x in losses]).sum()
    return loss, torch.stack(columns, 1).detach()


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    """Return the entropy of the softmax over dimension 1, in nats."""
    log_p = F.log_softmax(logits / temperature, 1)
    return -(log_p.exp() * log_p).sum(1)
