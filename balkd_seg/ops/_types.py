"""What passes between the public operation and its implementations."""

from typing import NamedTuple

import torch
from torch import Tensor

# What the softmax sees of -inf and all that is lower: the probability is 0, and a class that is
# excluded by both networks cancels exactly.
EXCLUDED = -1e25
# -inf in logits that are still to be resized: 0 * -inf would be NaN. The least share that a logit
# can have in a pixel, 1 / (4 H W), leaves it below `EXCLUDED`.
FLOOR = -1e37
# A gap between the networks' logits beyond this: one of them alone excludes the class.
UNBOUNDED = 1e20


class Terms(NamedTuple):
    """Weights and temperatures of the forward and the reverse divergence."""

    forward_weight: float
    reverse_weight: float
    forward_temperature: float
    reverse_temperature: float


class Weighting(NamedTuple):
    """Which samples' divergences count delta times, by the gap of the networks' entropies (BD-KD).

    The forward term of a sample where the teacher's entropy is larger, the reverse term where the
    student's is; entropies are those of the softmax at a temperature of their own.

    Attributes:
        granularity: What a sample is: 'image' (mean entropy of its units), 'pixel', or 'none'.
        delta: The factor.
        temperature: Of the entropies.
    """

    granularity: str = 'none'
    delta: float = 1.0
    temperature: float = 1.0


class Problem(NamedTuple):
    """What an implementation is asked for, beside the logits of the two networks.

    The loss is the sum over images n and their softmax units (pixels, or channel maps) of

        k_f[n] tau_f^2 KL(p||q; tau_f) + k_r[n] tau_r^2 KL(q||p; tau_r) + k_c[n] w[label] CE

    where the coefficients hold the weights and are already divided by the units that count. A
    weighting by entropy comes on top.

    Attributes:
        valid: (N, H, W) bool, the pixels that count; logits of another size are resized to it.
        target: (N, H, W) integer classes for the cross-entropy, or None to go without.
        class_weight: (C,) weights w of the cross-entropy, or None for 1.
        coefficients: (N, 3): k_f, k_r, k_c, in the dtype of the sums.
        terms: Temperatures; of the weights it only counts here which are 0, since such a term
            takes no part: it may be infinite.
        positions: Whether the softmax goes over the positions of each channel.
        align_corners: As in `torch.nn.functional.interpolate`.
        ignore_index: The label in `target` that does not count.
        weighting: By entropy; implementations see 'none' or 'pixel', the operator turns 'image'
            into coefficients.
    """

    valid: Tensor
    target: Tensor | None
    class_weight: Tensor | None
    coefficients: Tensor
    terms: Terms
    positions: bool
    align_corners: bool
    ignore_index: int
    weighting: Weighting = Weighting()


class Solution(NamedTuple):
    """What an implementation returns.

    Attributes:
        sums: (N, 5) sums over the units of each image that count: forward and reverse divergence,
            class-weighted cross-entropy, agreement of the networks' peaks, correct pixels. With a
            weighting (N, 9): also the student's and the teacher's entropy, and the forward and
            reverse divergence as weighted by them.
        student_gradient: Gradient of the loss, shaped as the student's logits, or None.
        teacher_gradient: The same for the teacher.
    """

    sums: Tensor
    student_gradient: Tensor | None
    teacher_gradient: Tensor | None


def total(sums: Tensor, coefficients: Tensor) -> Tensor:
    """Return what each term adds to the loss, (3,): forward, reverse, cross-entropy.

    A term of coefficient 0 takes no part, even if it is infinite.

    Args:
        sums: (N, 5) or (N, 9), as in `Solution`.
        coefficients: (N, 3), as in `Problem`.
    """
    terms = sums[:, :3]
    if sums.shape[1] > 5:
        terms = torch.cat((sums[:, 7:9], sums[:, 2:3]), 1)
    terms = terms.to(coefficients.dtype)
    return torch.where(coefficients > 0, coefficients * terms, 0).sum(0)


def entropy_weights(entropies: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Return the factors of the forward and the reverse divergence, without gradient.

    Args:
        entropies: The student's and the teacher's, (2, ...).
        delta: The factor of the term that counts more.
    """
    student, teacher = entropies.detach()
    one = torch.ones_like(student)
    more = one * delta  # a number in `where` would be a constant of a compiled graph
    return torch.where(teacher > student, more, one), torch.where(student > teacher, more, one)


def flags(problem: Problem) -> dict[str, bool]:
    """Return what the fused kernels have to know of a problem at compile time."""
    terms = problem.terms
    tau_f, tau_r = terms.forward_temperature, terms.reverse_temperature
    task, weighting = problem.target is not None, problem.weighting
    weighted, tau_h = weighting.granularity != 'none', weighting.temperature
    return {  # what nothing asks for is always False, so as to compile nothing anew
        'FORWARD': terms.forward_weight > 0,
        'REVERSE': terms.reverse_weight > 0,
        'TASK': task,
        'CLASS_WEIGHT': problem.class_weight is not None,
        'SAME': tau_f == tau_r,
        'HALF_F': tau_r == 2 * tau_f,
        'HALF_R': tau_f == 2 * tau_r,
        'UNIT_F': task and tau_f == 1,
        'UNIT_R': task and tau_r == 1 != tau_f,
        'ENTROPY': weighted,
        'ENTROPY_F': weighted and tau_h == tau_f,
        'ENTROPY_R': weighted and tau_h == tau_r != tau_f,
    }
