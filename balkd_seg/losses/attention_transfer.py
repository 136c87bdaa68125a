"""Attention transfer as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import AttentionTransfer, attention_transfer


@MODELS.register_module()
class AttentionTransferLoss(DenseLoss):
    r"""Difference of where features are strong.

    .. math::
        \lambda [1 - \text{mean}_n \cos(a_n, b_n)], \quad a_{ni} = \text{mean}_c A_{nci}^2

    One entry of `distill` for each pair of taps, each with its own `loss_name`.
    See `balkd_seg.ops.attention_transfer`.

    Args:
        ignore_index: Label of places that do not count.
        resize: 'student', 'none' or 'label': the size at which the features are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        Paying More Attention to Attention: Improving the Performance of Convolutional Neural
        Networks via Attention Transfer, https://arxiv.org/abs/1612.03928
    """

    def __init__(
        self,
        ignore_index: int = 255,
        resize: str = 'student',
        align_corners: bool = False,
        loss_weight: float = 2.5,
        loss_name: str = 'loss_at',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        target: Tensor | None = None,
    ) -> AttentionTransfer:
        """Return the weighted loss and its detached parts.

        Args:
            student_features: (N, C, h, w).
            teacher_features: (N, C', h', w').
            target: (N, H, W) labels, or None.
        """
        result = attention_transfer(student_features, teacher_features, target, **self.sizes())
        return self.weighed(result)
