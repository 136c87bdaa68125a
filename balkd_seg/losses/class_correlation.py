"""DIST as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import ClassCorrelation, class_correlation
from balkd_seg.ops._checks import check_part_weights, check_temperature


@MODELS.register_module()
class ClassCorrelationLoss(DenseLoss):
    r"""Pearson correlation between classes of a pixel, and within a class over the batch.

    .. math::
        \lambda \tau^2 [\beta \, \text{mean}_i (1 - r(q_i, p_i))
            + \gamma \, \text{mean}_c (1 - r(q^c, p^c))]

    See `balkd_seg.ops.class_correlation`.

    Args:
        inter_weight: Weight beta of the relation between classes, in [0, inf).
        intra_weight: Weight gamma of the relation within classes, in [0, inf); one of the two is
            positive.
        temperature: Temperature tau, in (0, inf).
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        Knowledge Distillation from A Stronger Teacher, https://arxiv.org/abs/2205.10536
    """

    def __init__(
        self,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        temperature: float = 1.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_dist',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)
        check_part_weights(inter_weight=inter_weight, intra_weight=intra_weight)
        check_temperature('temperature', temperature)
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.temperature = temperature

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None
    ) -> ClassCorrelation:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels, or None.
        """
        result = class_correlation(
            student_logits,
            teacher_logits,
            target,
            inter_weight=self.inter_weight,
            intra_weight=self.intra_weight,
            temperature=self.temperature,
            **self.sizes(),
        )
        return self.weighed(result)
