"""Balanced divergence as a loss module."""

import math
from typing import Any, NamedTuple

from mmengine.logging import MessageHub
from mmseg.registry import MODELS
from torch import Tensor, nn

from balkd_seg.ops import BalancedDivergence, balanced_divergence
from balkd_seg.ops._checks import check_settings
from balkd_seg.ops._types import Terms


class CrossEntropy(NamedTuple):
    """Settings of mmseg's `CrossEntropyLoss` that is computed beside a divergence."""

    weight: float
    class_weight: Tensor | None
    avg_non_ignore: bool


@MODELS.register_module()
class BalancedDivergenceLoss(nn.Module):
    r"""Forward plus reverse KL between a frozen teacher and the student.

    .. math::
        \lambda \, \text{mean} [w_f \tau_f^2 KL(p \| q; \tau_f) + w_r \tau_r^2 KL(q \| p; \tau_r)]

    See `balkd_seg.ops.balanced_divergence` for the mean and the gradient. With `anneal` w_f is
    multiplied by a and w_r by 1 - a, where a = 1 - iter / max_iters: forward first, reverse at the
    end. The paper's own weights, temperatures and schedule are not public.

    Args:
        forward_weight: Weight w_f of KL(teacher||student), in [0, inf).
        reverse_weight: Weight w_r of KL(student||teacher), in [0, inf); one of the two is positive.
        forward_temperature: Temperature tau_f, in (0, inf).
        reverse_temperature: Temperature tau_r, in (0, inf).
        softmax_axis: 'classes', or 'positions' for a distribution over the pixels of each channel.
        anneal: Whether to go from forward to reverse over the training iterations.
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        BDD: Balance Divergence for Knowledge Distillation, https://arxiv.org/abs/2501.07804
    """

    def __init__(
        self,
        forward_weight: float = 1.0,
        reverse_weight: float = 1.0,
        forward_temperature: float = 1.0,
        reverse_temperature: float = 1.0,
        softmax_axis: str = 'classes',
        anneal: bool = False,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_balkd',
    ) -> None:
        super().__init__()
        terms = Terms(forward_weight, reverse_weight, forward_temperature, reverse_temperature)
        check_settings(terms, softmax_axis, resize)
        _check_loss(loss_weight, loss_name)
        if anneal and not (forward_weight > 0 and reverse_weight > 0):
            raise ValueError(
                'Expected both weights to be larger than 0 with anneal=True, but got '
                f'forward_weight={forward_weight} and reverse_weight={reverse_weight}; '
                'use anneal=False to train with one of them'
            )
        self.terms = terms
        self.softmax_axis = softmax_axis
        self.anneal = anneal
        self.ignore_index = ignore_index
        self.resize = resize
        self.align_corners = align_corners
        self.loss_weight = loss_weight
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        """Name of the term in the log."""
        return self._loss_name

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None
    ) -> BalancedDivergence:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels, or None.
        """
        return balanced_divergence(
            student_logits, teacher_logits, target, **self._settings(), resize=self.resize
        )

    def with_cross_entropy(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, task: CrossEntropy
    ) -> tuple[Tensor, BalancedDivergence]:
        """Return the sum of this loss and the cross-entropy, and what `forward` returns, detached.

        Args:
            student_logits: (N, C, h, w).
            teacher_logits: (N, C, h', w').
            target: (N, H, W) labels; both logits are resized to them.
            task: Settings of the cross-entropy.
        """
        settings = self._settings()
        result = balanced_divergence(
            student_logits,
            teacher_logits,
            target,
            **settings,
            cross_entropy_weight=task.weight,
            class_weight=task.class_weight,
            avg_non_ignore=task.avg_non_ignore,
        )
        parts = (
            (settings['forward_weight'], result.forward),
            (settings['reverse_weight'], result.reverse),
        )
        divergence = sum(weight * part for weight, part in parts if weight > 0)
        return result.loss, result._replace(loss=divergence)

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of the operation, with the weights of this iteration."""
        share = _remaining_share() if self.anneal else None
        forward_weight, reverse_weight, forward_temperature, reverse_temperature = self.terms
        return {
            'forward_weight': self.loss_weight * forward_weight * (1.0 if share is None else share),
            'reverse_weight': self.loss_weight
            * reverse_weight
            * (1.0 if share is None else 1.0 - share),
            'forward_temperature': forward_temperature,
            'reverse_temperature': reverse_temperature,
            'softmax_axis': self.softmax_axis,
            'ignore_index': self.ignore_index,
            'align_corners': self.align_corners,
        }


def _remaining_share() -> float:
    """Return 1 - iter / max_iters, from what mmengine's runner publishes."""
    hub = MessageHub.get_current_instance()
    iteration, max_iters = hub.get_info('iter'), hub.get_info('max_iters')
    if iteration is None or not max_iters:
        raise ValueError(
            "Expected mmengine's message hub to hold 'iter' and 'max_iters' with anneal=True, but "
            f'got {iteration} and {max_iters}; train with a Runner, or use anneal=False'
        )
    return 1.0 - min(iteration / max_iters, 1.0)


def _check_loss(loss_weight: float, loss_name: str) -> None:
    """Raise unless the loss trains and its name says so."""
    if not (math.isfinite(loss_weight) and loss_weight > 0):
        raise ValueError(
            f'Expected `loss_weight` to be finite and larger than 0, but got {loss_weight}; '
            'remove the loss from `distill` to train without it'
        )
    if not loss_name.startswith('loss_'):
        raise ValueError(
            f"Expected `loss_name` to start with 'loss_', but got {loss_name!r}; mmengine trains "
            'only what has "loss" in its name'
        )
