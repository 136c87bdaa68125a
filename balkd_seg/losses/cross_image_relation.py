"""CIRKD's mini-batch relations as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import CrossImageRelation, cross_image_relation
from balkd_seg.ops._checks import check_pool, check_temperature


@MODELS.register_module()
class CrossImageRelationLoss(DenseLoss):
    r"""Similarities of pixels across the images of a batch.

    .. math::
        \lambda \, \text{mean}_{n, m, a} KL(\sigma(T_n T_m^\top / \tau)_a
            \| \sigma(S_n S_m^\top / \tau)_a)

    The paper's memory bank is left out. Name the taps in the entry of `distill`.
    See `balkd_seg.ops.cross_image_relation`.

    Args:
        temperature: Temperature tau of the cosines, in (0, inf).
        pool: Side of the squares of places that are averaged before, at least 1.
        ignore_index: Label of places that do not count.
        resize: 'student', 'none' or 'label': the size at which the features are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        Cross-Image Relational Knowledge Distillation for Semantic Segmentation,
        https://arxiv.org/abs/2204.06986
    """

    def __init__(
        self,
        temperature: float = 0.1,
        pool: int = 1,
        ignore_index: int = 255,
        resize: str = 'student',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_cirkd',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)
        check_temperature('temperature', temperature)
        check_pool(pool)
        self.temperature = temperature
        self.pool = pool

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        target: Tensor | None = None,
        teacher_gradient: bool = False,
    ) -> CrossImageRelation:
        """Return the weighted loss and its detached parts.

        Args:
            student_features: (N, C, h, w).
            teacher_features: (N, C', h', w').
            target: (N, H, W) labels, or None.
            teacher_gradient: Whether the teacher gets a gradient too.
        """
        result = cross_image_relation(
            student_features,
            teacher_features,
            target,
            temperature=self.temperature,
            pool=self.pool,
            teacher_gradient=teacher_gradient,
            **self.sizes(),
        )
        return self.weighed(result)
