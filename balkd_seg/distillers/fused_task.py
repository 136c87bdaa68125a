"""The student's main cross-entropy and one divergence in one pass over the pixels.

mmseg's head upsamples its logits to the label, and so does the divergence. Computed together, by
`balkd_seg.ops.balanced_divergence`, neither needs full-resolution logits.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn
from torch.autograd import Function

from balkd_seg.distillers.distill_term import DistillTerm, DistillTerms
from balkd_seg.distillers.taps import logits_head, logits_path
from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss, CrossEntropy


def find_fusable(student: nn.Module, terms: DistillTerms) -> DistillTerm | None:
    """Return the term to compute with the task loss, or None and log why there is none."""
    reason = _why_not_this_head(logits_head(student))
    if reason is None:
        for term in terms:
            if _fits(term, student):
                return term
        reason = (
            'no entry of `distill` is a divergence over classes between the logits themselves with '
            "resize='label'"
        )
    print_log(
        f'fuse_task_loss=True has no effect: {reason}. Cross-entropy and distillation are computed '
        'apart.',
        logger='current',
        level=logging.WARNING,
    )
    return None


@contextmanager
def fuse(
    student: nn.Module, term: DistillTerm, teacher_logits: Tensor, log: dict[str, Tensor]
) -> Iterator[None]:
    """Let the student's main head compute its loss together with a term while the block runs.

    Args:
        student: An mmseg segmentor.
        term: What `find_fusable` returned.
        teacher_logits: (N, C, h', w').
        log: Receives the entries of the term.
    """
    head: Any = logits_head(student)
    criterion: Any = _criteria(head)[0]

    def loss_by_feat(seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        weight = criterion.class_weight
        task = CrossEntropy(
            criterion.loss_weight,
            None if weight is None else torch.tensor(weight, device=seg_logits.device),
            criterion.avg_non_ignore,
        )
        target = head._stack_batch_gt(batch_data_samples).squeeze(1)
        joint, result = term.loss.with_cross_entropy(seg_logits, teacher_logits, target, task)
        log.update(term.log(result._replace(cross_entropy=None, accuracy=None)))
        value = criterion.loss_weight * result.cross_entropy
        return {
            criterion.loss_name: _ValueOfOneGradientOfOther.apply(value, joint),
            'acc_seg': 100 * result.accuracy,
        }

    head.loss_by_feat = loss_by_feat
    try:
        yield
    finally:
        del head.loss_by_feat


class _ValueOfOneGradientOfOther(Function):
    """Lets the log show one loss while the gradient of the sum it belongs to flows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, loss: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def _criteria(head: Any) -> list[nn.Module]:
    losses = head.loss_decode
    return list(losses) if isinstance(losses, nn.ModuleList) else [losses]


def _why_not_this_head(head: Any) -> str | None:
    """Return why a head's loss cannot be computed with a divergence, or None."""
    if type(head).loss_by_feat is not BaseDecodeHead.loss_by_feat:
        return f'{type(head).__name__} computes its loss in its own way'
    if head.sampler is not None:
        return f'the head samples pixels with {type(head.sampler).__name__}'
    criteria = _criteria(head)
    if len(criteria) != 1 or type(criteria[0]) is not CrossEntropyLoss:
        names = ', '.join(type(criterion).__name__ for criterion in criteria)
        return f'the loss of the head is {names}, not CrossEntropyLoss alone'
    criterion: Any = criteria[0]
    if criterion.use_sigmoid or criterion.use_mask or criterion.reduction != 'mean':
        return 'the CrossEntropyLoss of the head is not the mean of a softmax cross-entropy'
    if criterion.loss_weight <= 0:
        return f'the loss_weight of the head is {criterion.loss_weight}'
    return None


def _fits(term: DistillTerm, student: nn.Module) -> bool:
    loss = term.loss
    return (
        isinstance(loss, BalancedDivergenceLoss)
        and loss.softmax_axis == 'classes'
        and loss.resize == 'label'
        and isinstance(term.projection, nn.Identity)
        and term.student_tap == logits_path(student)
    )
