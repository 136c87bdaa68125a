"""A network's main cross-entropy and one divergence in one pass over the pixels.

mmseg's head upsamples its logits to the label, and so does the divergence. Computed together, by
`balkd_seg.ops.balanced_divergence`, neither needs full-resolution logits.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor, nn
from torch.autograd import Function

from balkd_seg.distillers.distill_term import DistillTerm
from balkd_seg.distillers.taps import logits_head, logits_path, task_losses
from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss, CrossEntropy


def find_fusable(network: nn.Module, terms: Iterable[DistillTerm]) -> DistillTerm | None:
    """Return the term to compute with the task loss, or None and log why there is none.

    Args:
        network: The segmentor that learns.
        terms: Its terms.
    """
    reason = _why_not_this_head(logits_head(network))
    if reason is None:
        for term in terms:
            if _fits(term, network):
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


class TaskLoss:
    """What a main head would have computed its loss from, once the network has run.

    Args:
        network: An mmseg segmentor.
    """

    def __init__(self, network: nn.Module) -> None:
        self.head: Any = logits_head(network)
        self.criterion: Any = task_losses(self.head)[0]
        stage = logits_path(network).split('.')[1:]  # of a cascade
        self.prefix = '_'.join(['decode', *stage])
        self.logits: Tensor | None = None
        self.data_samples: list = []

    def store(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Take the place of the head's `loss_by_feat`, and hold the place of its results."""
        self.logits, self.data_samples = seg_logits, batch_data_samples
        zero = seg_logits.new_zeros(())
        return {self.criterion.loss_name: zero, 'acc_seg': zero}

    def with_term(
        self, term: DistillTerm, teacher_logits: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the entries of the log of the head's loss, and those of a term, computed together.

        Args:
            term: What `find_fusable` returned.
            teacher_logits: (N, C, h', w').
        """
        assert self.logits is not None
        criterion = self.criterion
        weight = criterion.class_weight
        task = CrossEntropy(
            criterion.loss_weight,
            None if weight is None else torch.tensor(weight, device=self.logits.device),
            criterion.avg_non_ignore,
        )
        target = self.head._stack_batch_gt(self.data_samples).squeeze(1)
        logits = term.classes_of(self.logits, teacher_logits)
        joint, result = term.loss.with_cross_entropy(*logits, target, task)
        value = criterion.loss_weight * result.cross_entropy
        own = {
            f'{self.prefix}.{criterion.loss_name}': _ValueOfOneGradientOfOther.apply(value, joint),
            f'{self.prefix}.acc_seg': 100 * result.accuracy,
        }
        return own, term.log(result._replace(cross_entropy=None, accuracy=None))


@contextmanager
def defer_task_loss(network: nn.Module) -> Iterator[TaskLoss]:
    """Keep a network's main head from computing its loss while the block runs a training step.

    Yields:
        What `with_term` computes it from, once the network has run.
    """
    task = TaskLoss(network)
    task.head.loss_by_feat = task.store
    try:
        yield task
    finally:
        del task.head.loss_by_feat


class _ValueOfOneGradientOfOther(Function):
    """Lets the log show one loss while the gradient of the sum it belongs to flows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, loss: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def _why_not_this_head(head: Any) -> str | None:
    """Return why a head's loss cannot be computed with a divergence, or None."""
    if type(head).loss_by_feat is not BaseDecodeHead.loss_by_feat:
        return f'{type(head).__name__} computes its loss in its own way'
    if head.sampler is not None:
        return f'the head samples pixels with {type(head.sampler).__name__}'
    criteria = task_losses(head)
    if len(criteria) != 1 or type(criteria[0]) is not CrossEntropyLoss:
        names = ', '.join(type(criterion).__name__ for criterion in criteria)
        return f'the loss of the head is {names}, not CrossEntropyLoss alone'
    criterion: Any = criteria[0]
    one_sigmoid = criterion.use_sigmoid and head.out_channels == 1
    if one_sigmoid and criterion.class_weight is not None:
        # mmseg takes it for the weight of class 1 alone, and divides by the number of pixels
        return 'the CrossEntropyLoss of the one sigmoid channel has a class_weight'
    softmax = one_sigmoid or not (criterion.use_sigmoid or criterion.use_mask)
    if not softmax or criterion.reduction != 'mean':
        return 'the CrossEntropyLoss of the head is not the mean of a softmax cross-entropy'
    if criterion.loss_weight <= 0:
        return f'the loss_weight of the head is {criterion.loss_weight}'
    return None


def _fits(term: DistillTerm, network: nn.Module) -> bool:
    loss = term.loss
    return (
        isinstance(loss, BalancedDivergenceLoss)
        and loss.softmax_axis == 'classes'
        and loss.resize == 'label'
        and isinstance(term.projection, nn.Identity)
        and term.student_tap == logits_path(network)
    )
