"""FitNets as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import FeatureMimicking, feature_mimicking


@MODELS.register_module()
class FeatureMimickingLoss(DenseLoss):
    r"""Mean squared difference of features.

    .. math::
        \lambda \frac{1}{C |V|} \sum_{i \in V} \| u_i - v_i \|^2

    Name the taps in the entry of `distill`, and a `projection` where channels differ.
    See `balkd_seg.ops.feature_mimicking`.

    Args:
        ignore_index: Label of places that do not count.
        resize: 'student', 'none' or 'label': the size at which the features are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        FitNets: Hints for Thin Deep Nets, https://arxiv.org/abs/1412.6550
    """

    def __init__(
        self,
        ignore_index: int = 255,
        resize: str = 'student',
        align_corners: bool = False,
        loss_weight: float = 10.0,
        loss_name: str = 'loss_fitnet',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)

    def forward(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        target: Tensor | None = None,
    ) -> FeatureMimicking:
        """Return the weighted loss and its detached parts.

        Args:
            student_features: (N, C, h, w), projected.
            teacher_features: (N, C, h', w').
            target: (N, H, W) labels, or None.
        """
        result = feature_mimicking(student_features, teacher_features, target, **self.sizes())
        return self.weighed(result)
