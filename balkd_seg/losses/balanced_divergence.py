"""Balanced divergence as a loss module."""

from typing import Any, NamedTuple

import torch
from mmengine.logging import MessageHub
from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import BalancedDivergence, balanced_divergence
from balkd_seg.ops._checks import check_choice, check_settings, check_weighting
from balkd_seg.ops._select import IMPLEMENTATIONS
from balkd_seg.ops._types import Terms, Weighting


class CrossEntropy(NamedTuple):
    """Settings of mmseg's `CrossEntropyLoss` that is computed beside a divergence."""

    weight: float
    class_weight: Tensor | None
    avg_non_ignore: bool


@MODELS.register_module()
class BalancedDivergenceLoss(DenseLoss):
    r"""Forward plus reverse KL between a teacher and the student.

    .. math::
        \lambda \, \text{mean} [w_f \tau_f^2 KL(p \| q; \tau_f) + w_r \tau_r^2 KL(q \| p; \tau_r)]

    See `balkd_seg.ops.balanced_divergence` for the mean and the gradient. With `anneal` w_f is
    multiplied by a and w_r by 1 - a, where a = 1 - iter / max_iters: forward first, reverse at the
    end. The paper's own weights, temperatures and schedule are not public. With an
    `entropy_weighting` the divergence that counts more is chosen sample by sample (BD-KD).

    Weights, temperatures and delta are plain attributes; `DistillScheduleHook` changes them, also
    under `torch.compile(fullgraph=True)`. `anneal` asks the runner, which interrupts the graph; two
    schedules, of w_f from 1 to 0 and of w_r from 0 to 1 over the iterations, do the same without.

    Args:
        forward_weight: Weight w_f of KL(teacher||student), in [0, inf).
        reverse_weight: Weight w_r of KL(student||teacher), in [0, inf); one of the two is positive.
        forward_temperature: Temperature tau_f, in (0, inf).
        reverse_temperature: Temperature tau_r, in (0, inf).
        entropy_weighting: 'none', 'image' (the paper's sample) or 'pixel' (our extension).
        delta: Factor of the forward divergence where the teacher is less sure than the student, of
            the reverse one where it is surer; in (0, inf).
        entropy_temperature: Temperature of the entropies that tell, in (0, inf).
        softmax_axis: 'classes', or 'positions' for a distribution over the pixels of each channel.
        anneal: Whether to go from forward to reverse over the training iterations.
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.
        impl: Implementation, as in the operation.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        BDD: Balance Divergence for Knowledge Distillation, https://arxiv.org/abs/2501.07804
        BD-KD: Balancing the Divergences for Online Knowledge Distillation,
        https://arxiv.org/abs/2212.12965
    """

    def __init__(
        self,
        forward_weight: float = 1.0,
        reverse_weight: float = 1.0,
        forward_temperature: float = 1.0,
        reverse_temperature: float = 1.0,
        entropy_weighting: str = 'none',
        delta: float = 2.0,
        entropy_temperature: float = 1.0,
        softmax_axis: str = 'classes',
        anneal: bool = False,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_balkd',
        impl: str = 'auto',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)
        terms = Terms(forward_weight, reverse_weight, forward_temperature, reverse_temperature)
        check_settings(terms, softmax_axis, resize)
        check_weighting(Weighting(entropy_weighting, delta, entropy_temperature), softmax_axis)
        check_choice('impl', impl, IMPLEMENTATIONS)
        if anneal and not (forward_weight > 0 and reverse_weight > 0):
            raise ValueError(
                'Expected both weights to be larger than 0 with anneal=True, but got '
                f'forward_weight={forward_weight} and reverse_weight={reverse_weight}; '
                'use anneal=False to train with one of them'
            )
        self.forward_weight = forward_weight
        self.reverse_weight = reverse_weight
        self.forward_temperature = forward_temperature
        self.reverse_temperature = reverse_temperature
        self.entropy_weighting = entropy_weighting
        self.delta = delta
        self.entropy_temperature = entropy_temperature
        self.softmax_axis = softmax_axis
        self.anneal = anneal
        self.impl = impl

    @property
    def temperature(self) -> float:
        """Temperature of both divergences; of the forward one if they differ."""
        return self.forward_temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.forward_temperature = self.reverse_temperature = value

    @property
    def is_active(self) -> bool:
        """Whether the loss has a weight at this iteration; a schedule may take it away."""
        return self.loss_weight > 0 and any(weight > 0 for weight in self._weights())

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor | None = None,
        teacher_gradient: bool = False,
    ) -> BalancedDivergence:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels, or None.
            teacher_gradient: Whether the teacher gets a gradient too.
        """
        return balanced_divergence(
            student_logits,
            teacher_logits,
            target,
            **self._settings(),
            resize=self.resize,
            teacher_gradient=teacher_gradient,
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
        result = balanced_divergence(
            student_logits,
            teacher_logits,
            target,
            **self._settings(),
            cross_entropy_weight=task.weight,
            class_weight=task.class_weight,
            avg_non_ignore=task.avg_non_ignore,
        )
        assert result.divergence is not None
        return result.loss, result._replace(loss=result.divergence, divergence=None)

    def _weights(self) -> tuple[float, float]:
        """Return the weights of the two divergences at this iteration."""
        if not self.anneal:
            return self.forward_weight, self.reverse_weight
        share = _remaining_share()
        return share * self.forward_weight, (1.0 - share) * self.reverse_weight

    def _settings(self) -> dict[str, Any]:
        """Return the arguments of the operation, with the weights of this iteration."""
        forward_weight, reverse_weight = self._weights()
        return {
            'forward_weight': self.loss_weight * forward_weight,
            'reverse_weight': self.loss_weight * reverse_weight,
            'forward_temperature': self.forward_temperature,
            'reverse_temperature': self.reverse_temperature,
            'entropy_weighting': self.entropy_weighting,
            'delta': self.delta,
            'entropy_temperature': self.entropy_temperature,
            'softmax_axis': self.softmax_axis,
            'ignore_index': self.ignore_index,
            'align_corners': self.align_corners,
            'impl': self.impl,
        }


@torch.compiler.disable  # which would take the iteration for a constant
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
