"""Balanced divergence: forward and reverse KL between a teacher's and a student's logits."""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._checks import (
    check_choice,
    check_logits,
    check_settings,
    check_target,
    check_task,
    check_weighting,
)
from balkd_seg.ops._masks import valid_pixels
from balkd_seg.ops._operator import solve
from balkd_seg.ops._select import IMPLEMENTATIONS, select_implementation
from balkd_seg.ops._types import Problem, Terms, Weighting, total
from balkd_seg.ops.reference import reference


class BalancedDivergence(NamedTuple):
    """Result of `balanced_divergence`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    forward: Tensor
    reverse: Tensor
    agreement: Tensor
    valid: Tensor
    cross_entropy: Tensor | None = None
    accuracy: Tensor | None = None
    divergence: Tensor | None = None
    student_entropy: Tensor | None = None
    teacher_entropy: Tensor | None = None


def balanced_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    forward_weight: float = 1.0,
    reverse_weight: float = 1.0,
    forward_temperature: float = 1.0,
    reverse_temperature: float = 1.0,
    cross_entropy_weight: float = 0.0,
    class_weight: Tensor | None = None,
    avg_non_ignore: bool = False,
    entropy_weighting: str = 'none',
    delta: float = 2.0,
    entropy_temperature: float = 1.0,
    softmax_axis: str = 'classes',
    ignore_index: int = 255,
    resize: str = 'label',
    align_corners: bool = False,
    teacher_gradient: bool = False,
    impl: str = 'auto',
) -> BalancedDivergence:
    r"""Measure how far the student's distribution is from the teacher's, in both directions.

    .. math::
        L = \frac{1}{|V|} \sum_{i \in V} w_f \tau_f^2 KL(p_i \| q_i; \tau_f)
            + w_r \tau_r^2 KL(q_i \| p_i; \tau_r)
            + \frac{w_c}{Z} \sum_{i \in V} CE(q_i, y_i)

    with teacher probabilities p, student probabilities q, and V the softmax units that count:
    with `softmax_axis='classes'` the pixels (or samples) whose target is not `ignore_index`; with
    'positions' the channel maps of every image that has such a pixel, each a distribution over
    that image's valid pixels alone (the unit of CWD; CWD itself ignores nothing).

    The paper's abstract names the two divergences and their temperatures; its weights and
    schedule are not public, so that this is a labelled reconstruction. Weights (1, 0) are plain
    knowledge distillation, (0, 1) plain reverse KL; a term of weight 0 takes no part.

    With an `entropy_weighting` the divergences of every sample j are weighted once more (BD-KD):
    w_f is multiplied by delta where the teacher's entropy H(p_j) exceeds the student's H(q_j), w_r
    where it is the other way round; neither where they are equal. Entropies are those at
    `entropy_temperature`; these factors carry no gradient. A sample is an image, with the mean
    entropy of its units that count, as in the paper, or, our extension, a pixel.

    The cross-entropy with the labels y is there on request, so that a training step passes over
    its pixels once. It is mmseg's: Z is the number of pixels (of valid ones with
    `avg_non_ignore`), or the sum of their class weights, ignored pixels having none.

    Computed in fp32 (fp64 for fp64 student logits), also under autocast. The student gets a
    gradient, once (no double backward except with `impl='reference'`); the teacher on request.
    All implementations but the reference are one operator for `torch.compile(fullgraph=True)`; the
    fused one gives the same bits every time and never waits for the device (CUDA graphs).
    Without a unit that counts the loss is 0 with a zero gradient. A class at -inf in both
    networks is a class that is not there; at -inf in one alone it makes the divergence inf where
    the other gives it mass, and such a unit sends no gradient. Resizing is by matrix products,
    which follow `torch.set_float32_matmul_precision`.

    What pixels, of the target's size, are made of are the logits that have a share (a weight larger
    than 0) in them. Where logits are resized, a class is excluded from a pixel if a -inf has a
    share in it, and the pixel does not train its other logits of that class. What logits of
    ignored pixels hold, be it NaN or inf, changes neither values nor gradients; a logit that has a
    share in a pixel that counts as well as in ignored ones counts with what it is to the former:
    NaN or +inf makes it, and with it the loss, NaN. Every unit that counts has a class left.

    Args:
        student_logits: (N, C, h, w), or (N, C) for classification; floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) integer labels. The divergence only compares them with
            `ignore_index`. A label that is no class makes the cross-entropy NaN, sends no gradient
            of it and is never right. None: everything counts.
        forward_weight: Weight w_f of KL(p||q), in [0, inf).
        reverse_weight: Weight w_r of KL(q||p), in [0, inf); one of the two is positive.
        forward_temperature: Temperature tau_f, in (0, inf).
        reverse_temperature: Temperature tau_r, in (0, inf).
        cross_entropy_weight: Weight w_c, in [0, inf); 0 goes without. Needs a `target`, classes
            and resize='label'.
        class_weight: (C,) factors of the cross-entropy, or None for 1.
        avg_non_ignore: As in mmseg's `CrossEntropyLoss`.
        entropy_weighting: 'none', 'image' or 'pixel' (with softmax_axis='classes'). A row of (N, C)
            logits is a sample with either. 'image' reads the logits a second time.
        delta: Factor of the term that counts more, in (0, inf); 1 is as without.
        entropy_temperature: Temperature of the entropies, in (0, inf).
        softmax_axis: 'classes' or 'positions'.
        ignore_index: Target value of pixels that do not count.
        resize: 'label' resizes both logits bilinearly to the target (equal sizes without one),
            'student' the teacher's to the student's; 'none' requires equal sizes. In the latter
            two a larger target is reduced by nearest.
        align_corners: As in `torch.nn.functional.interpolate`.
        teacher_gradient: Whether the teacher gets the gradient of the divergences as well.
        impl: 'fused' (Triton kernels, for NVIDIA GPUs from compute capability 8.0), 'chunked'
            (constant memory, any device), 'reference' (the definition), or 'auto': fused on CUDA
            for a softmax over 2 to 256 classes of fp32, bf16 or fp16 logits that are not larger
            than the output, else chunked. On a GPU the first call of a form of the kernels holds
            them to 'chunked' (see `_trust.py`): where they fail, 'auto' warns once and stays
            chunked. A CUDA graph is captured after a call that is not.

    Returns:
        `loss` as above; detached: `forward` and `reverse`, the means of tau^2 KL without their
        weights; `agreement`, the share of units in which both networks peak at the same class
        (position), ties counting as agreement; `valid`, the share of pixels that count; and with
        the cross-entropy `cross_entropy`, its mean without w_c, `accuracy`, the share of valid
        pixels whose label scores highest, ties counting, and `divergence`, the loss without
        cross-entropy; with a weighting `student_entropy` and `teacher_entropy`, the mean over units
        in nats (None without).

    Raises:
        ValueError: If an argument is out of range, shapes do not fit together, or 'fused' cannot
            compute this here.
        RuntimeError: In a double backward; where fused kernels are found wrong with impl='fused',
            or run for the first time while a CUDA graph is captured.

    Example:
        >>> student = torch.zeros(1, 2, 4, 4, requires_grad=True)
        >>> teacher = torch.zeros(1, 2, 4, 4)
        >>> teacher[:, 0] = torch.tensor(3.0).log()
        >>> result = balanced_divergence(student, teacher)
        >>> round(result.forward.item(), 4), round(result.reverse.item(), 4)
        (0.1308, 0.1438)

    Reference:
        BDD: Balance Divergence for Knowledge Distillation, https://arxiv.org/abs/2501.07804
        BD-KD: Balancing the Divergences for Online Knowledge Distillation,
        https://arxiv.org/abs/2212.12965, for the weighting; its formula is our reconstruction
    """
    terms = Terms(forward_weight, reverse_weight, forward_temperature, reverse_temperature)
    check_settings(terms, softmax_axis, resize)
    weighting = Weighting(entropy_weighting, delta, entropy_temperature)
    check_weighting(weighting, softmax_axis)
    check_choice('impl', impl, IMPLEMENTATIONS)
    check_logits(student_logits, teacher_logits, softmax_axis)
    check_target(student_logits, teacher_logits, target, resize)
    with_task = cross_entropy_weight != 0
    check_task(cross_entropy_weight, class_weight, student_logits, target, softmax_axis, resize)
    with torch.autocast(student_logits.device.type, enabled=False):
        valid = valid_pixels(student_logits, target, ignore_index, resize)
        if student_logits.ndim == 2:  # samples are the pixels of one image
            student_logits, teacher_logits = (
                z.mT[None, :, :, None] for z in (student_logits, teacher_logits)
            )
            valid = valid[None, :, None]
            target = None if target is None else target[None, :, None]
            if entropy_weighting == 'image':
                weighting = weighting._replace(granularity='pixel')
        positions = softmax_axis == 'positions'
        impl = select_implementation(impl, student_logits, teacher_logits, valid, positions)
        dtype = torch.promote_types(student_logits.dtype, torch.float32)
        num_valid = valid.count_nonzero()
        units = num_valid
        if positions:
            units = valid.flatten(1).any(1).count_nonzero() * student_logits.shape[1]
        units = units.clamp(min=1).to(dtype)
        per_unit = units.reciprocal()
        per_pixel = per_unit
        if not with_task:
            target = class_weight = None
        elif class_weight is not None:
            class_weight = class_weight.to(valid.device, dtype)
            weight_sum = _weight_sum(target, valid, ignore_index, class_weight, avg_non_ignore)
            per_pixel = weight_sum.reciprocal()
        elif not avg_non_ignore:
            per_pixel = torch.full_like(units, 1 / max(1, valid.numel()))
        divisors = (
            (forward_weight, per_unit),
            (reverse_weight, per_unit),
            (cross_entropy_weight, per_pixel),
        )
        coefficients = torch.stack([weight * x for weight, x in divisors]).expand(len(valid), 3)
        problem = Problem(
            valid, target, class_weight, coefficients, terms, positions, align_corners,
            ignore_index, weighting,
        )  # fmt: skip
        if not teacher_gradient:
            teacher_logits = teacher_logits.detach()
        if impl == 'reference':
            loss, sums = reference(student_logits, teacher_logits, problem)
            parts = total(sums, coefficients)
        else:
            loss, parts, sums = solve(
                impl, student_logits, teacher_logits, problem, teacher_gradient
            )
        sums = sums.sum(0)
        forward, reverse, _, agreement, correct, *entropies = (sums / units).unbind()
        student_entropy, teacher_entropy = entropies[:2] if entropies else (None, None)
        return BalancedDivergence(
            loss,
            forward,
            reverse,
            agreement,
            num_valid / max(valid.numel(), 1),
            sums[2] * per_pixel if with_task else None,
            correct if with_task else None,
            parts[:2].sum() if with_task else None,
            student_entropy,
            teacher_entropy,
        )


def _weight_sum(
    target: Tensor | None,
    valid: Tensor,
    ignore_index: int,
    class_weight: Tensor,
    avg_non_ignore: bool,
) -> Tensor:
    """Return what mmseg divides a class-weighted cross-entropy by.

    An ignored pixel has the weight of its label if that is a class, unless `avg_non_ignore`; a
    label that is no class has none.
    """
    assert target is not None
    counted = valid
    if not avg_non_ignore and 0 <= ignore_index < len(class_weight):
        counted = torch.ones_like(valid)
    labels = target.masked_fill(~counted, 0).long()
    classes = labels.clamp(0, len(class_weight) - 1)
    weight = torch.where(counted & (labels == classes), class_weight[classes], 0).sum()
    return torch.where(weight > 0, weight, 1)
