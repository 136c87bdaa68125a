"""The balanced form of any loss with a direction."""

import inspect
from typing import Any, NamedTuple

from mmseg.registry import MODELS
from torch import Tensor, nn

from balkd_seg.losses._dense_loss import check_loss
from balkd_seg.ops._checks import check_part_weights
from balkd_seg.ops._dense import resized


class Balanced(NamedTuple):
    """Result of `BalancedLoss`: 0-dim tensors, of which only `loss` carries a gradient.

    A part whose weight is 0 is None, since it was not computed.
    """

    loss: Tensor
    forward: Tensor | None
    reverse: Tensor | None
    agreement: Tensor | None = None
    valid: Tensor | None = None


@MODELS.register_module()
class BalancedLoss(nn.Module):
    r"""A forward-KL method plus itself with the two networks' roles exchanged.

    .. math::
        w_f D(q, p) + w_r D(p, q)

    D(q, p) is the wrapped loss of student q and teacher p, with its own weight and temperature;
    the student gets the gradient of both parts, the teacher none. What BDD does to plain KD is
    done to any method: with `PixelwiseKLLoss` this is `BalancedDivergenceLoss`, with
    `ChannelwiseKLLoss` the same over positions (which computes both parts in one pass), with
    `DecoupledKLLoss` both of DKD's terms are mirrored. Weights (1, 0) are the wrapped loss
    exactly; a part of weight 0 is not computed. With `resize='student'` both parts are compared at
    the student's size. That it is useful beyond plain KD is the paper's claim, the form is ours.

    `loss_weight` and `temperature` are the wrapped loss's own, and a schedule may change them.

    Args:
        loss: Config of a loss that has a direction, that is whose `forward` takes
            `teacher_gradient`.
        forward_weight: Weight w_f, in [0, inf).
        reverse_weight: Weight w_r, in [0, inf); one of the two is positive.
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a weight is out of range, or the loss has no direction.

    Reference:
        BDD: Balance Divergence for Knowledge Distillation, https://arxiv.org/abs/2501.07804
    """

    def __init__(
        self,
        loss: dict,
        forward_weight: float = 1.0,
        reverse_weight: float = 1.0,
        loss_name: str = 'loss_balanced',
    ) -> None:
        super().__init__()
        check_loss(1.0, loss_name)
        check_part_weights(forward_weight=forward_weight, reverse_weight=reverse_weight)
        self.loss: Any = MODELS.build(dict(loss))
        if 'teacher_gradient' not in inspect.signature(self.loss.forward).parameters:
            raise ValueError(
                f'Expected a loss with a direction in a BalancedLoss, such as PixelwiseKLLoss, but '
                f'got {type(self.loss).__name__}, which is no divergence from one network to the '
                'other; add a BalancedDivergenceLoss as another entry of `distill` instead'
            )
        self.forward_weight = forward_weight
        self.reverse_weight = reverse_weight
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        """Name of the term in the log."""
        return self._loss_name

    @property
    def ignore_index(self) -> int:
        """Label of pixels that do not count."""
        return self.loss.ignore_index

    @property
    def resize(self) -> str:
        """The size at which the networks are compared."""
        return self.loss.resize

    @property
    def align_corners(self) -> bool:
        """As in the decode head."""
        return self.loss.align_corners

    @property
    def loss_weight(self) -> float:
        """Weight of the wrapped loss."""
        return self.loss.loss_weight

    @loss_weight.setter
    def loss_weight(self, value: float) -> None:
        self.loss.loss_weight = value

    @property
    def temperature(self) -> float:
        """Temperature of the wrapped loss, of both parts."""
        return self.loss.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.loss.temperature = value

    @property
    def is_active(self) -> bool:
        """Whether the loss has a weight at all; a schedule may take it away."""
        return self.loss_weight > 0 and (self.forward_weight > 0 or self.reverse_weight > 0)

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None
    ) -> Balanced:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels, or None.
        """
        teacher_logits = teacher_logits.detach()
        forward = reverse = None
        if self.forward_weight > 0:
            forward = self.loss(student_logits, teacher_logits, target)
        if self.reverse_weight > 0:
            if self.resize == 'student' and teacher_logits.ndim == 4:
                size = student_logits.shape[2:]
                teacher_logits = resized(teacher_logits, size, self.align_corners)
            reverse = self.loss(teacher_logits, student_logits, target, teacher_gradient=True)
        parts = [(self.forward_weight, forward), (self.reverse_weight, reverse)]
        losses = [weight * part.loss for weight, part in parts if part is not None]
        watched = forward or reverse
        return Balanced(
            sum(losses[1:], losses[0]),
            forward=None if forward is None else forward.loss.detach(),
            reverse=None if reverse is None else reverse.loss.detach(),
            agreement=getattr(watched, 'agreement', None),
            valid=getattr(watched, 'valid', None),
        )
