"""Balanced divergence: forward and reverse KL between a teacher's and a student's logits."""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._checks import check_choice, check_logits, check_settings, check_target
from balkd_seg.ops._chunked import chunked
from balkd_seg.ops._masks import valid_pixels
from balkd_seg.ops._types import Sums, Terms
from balkd_seg.ops.reference import reference

_IMPLEMENTATIONS = {'chunked': chunked, 'reference': reference}


class BalancedDivergence(NamedTuple):
    """Result of `balanced_divergence`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    forward: Tensor
    reverse: Tensor
    agreement: Tensor
    valid: Tensor


@torch.compiler.disable  # a caller is compiled around it: tracing would unroll every tile
def balanced_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    forward_weight: float = 1.0,
    reverse_weight: float = 1.0,
    forward_temperature: float = 1.0,
    reverse_temperature: float = 1.0,
    softmax_axis: str = 'classes',
    ignore_index: int = 255,
    resize: str = 'label',
    align_corners: bool = False,
    impl: str = 'auto',
) -> BalancedDivergence:
    r"""Measure how far the student's distribution is from the teacher's, in both directions.

    .. math::
        L = \frac{1}{|V|} \sum_{i \in V} w_f \tau_f^2 KL(p_i \| q_i; \tau_f)
            + w_r \tau_r^2 KL(q_i \| p_i; \tau_r)

    with teacher probabilities p, student probabilities q, and V the softmax units that count:
    with `softmax_axis='classes'` the pixels (or samples) whose target is not `ignore_index`; with
    'positions' the channel maps of every image that has such a pixel, each a distribution over
    that image's valid pixels alone (the unit of CWD; CWD itself ignores nothing).

    The paper's abstract names the two divergences and their temperatures; its weights and
    schedule are not public, so that this is a labelled reconstruction. Weights (1, 0) are plain
    knowledge distillation, (0, 1) plain reverse KL; a term of weight 0 takes no part.

    Computed in fp32 (fp64 for fp64 student logits), also under autocast. The student gets a
    gradient, once (no double backward except with `impl='reference'`); the teacher gets none.
    Without a unit that counts the loss is 0 with a zero gradient. A class at -inf in both
    networks is a class that is not there; at -inf in one alone it makes the divergence inf where
    the other gives it mass, and such a unit sends no gradient. Resizing is by matrix products,
    which follow `torch.set_float32_matmul_precision`.

    Args:
        student_logits: (N, C, h, w), or (N, C) for classification; floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) integer labels; only compared with `ignore_index`, so check
            elsewhere that they are classes. None: everything counts.
        forward_weight: Weight w_f of KL(p||q), in [0, inf).
        reverse_weight: Weight w_r of KL(q||p), in [0, inf); one of the two is positive.
        forward_temperature: Temperature tau_f, in (0, inf).
        reverse_temperature: Temperature tau_r, in (0, inf).
        softmax_axis: 'classes' or 'positions'.
        ignore_index: Target value of pixels that do not count.
        resize: 'label' resizes both logits bilinearly to the target (equal sizes without one),
            'student' the teacher's to the student's; 'none' requires equal sizes. In the latter
            two a larger target is reduced by nearest.
        align_corners: As in `torch.nn.functional.interpolate`.
        impl: 'chunked' (constant memory), 'reference' (the definition) or 'auto' (the fastest).

    Returns:
        `loss` as above; detached: `forward` and `reverse`, the means of tau^2 KL without their
        weights; `agreement`, the share of units in which both networks peak at the same class
        (position), ties counting as agreement; `valid`, the share of pixels that count.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:
        >>> student = torch.zeros(1, 2, 4, 4, requires_grad=True)
        >>> teacher = torch.zeros(1, 2, 4, 4)
        >>> teacher[:, 0] = torch.tensor(3.0).log()
        >>> result = balanced_divergence(student, teacher)
        >>> round(result.forward.item(), 4), round(result.reverse.item(), 4)
        (0.1308, 0.1438)

    Reference:
        BDD: Balance Divergence for Knowledge Distillation, https://arxiv.org/abs/2501.07804
    """
    terms = Terms(forward_weight, reverse_weight, forward_temperature, reverse_temperature)
    check_settings(terms, softmax_axis, resize)
    check_choice('impl', impl, ('auto', *_IMPLEMENTATIONS))
    implementation = _IMPLEMENTATIONS['chunked' if impl == 'auto' else impl]
    check_logits(student_logits, teacher_logits, softmax_axis)
    check_target(student_logits, teacher_logits, target, resize)
    with torch.autocast(student_logits.device.type, enabled=False):
        valid = valid_pixels(student_logits, target, ignore_index, resize)
        if student_logits.ndim == 2:  # samples are the pixels of one image
            student_logits, teacher_logits = (
                z.mT[None, :, :, None] for z in (student_logits, teacher_logits)
            )
            valid = valid[None, :, None]
        sums = implementation(
            student_logits,
            teacher_logits.detach(),
            valid,
            terms,
            softmax_axis=softmax_axis,
            align_corners=align_corners,
        )
        return _means(sums, valid)


def _means(sums: Sums, valid: Tensor) -> BalancedDivergence:
    """Divide once, by the units that count."""
    units = sums.units.clamp(min=1)
    return BalancedDivergence(
        loss=sums.loss / units,
        forward=(sums.forward / units).detach(),
        reverse=(sums.reverse / units).detach(),
        agreement=sums.agreement / units,
        valid=valid.count_nonzero() / max(valid.numel(), 1),
    )
