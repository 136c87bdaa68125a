"""Plain knowledge distillation of every pixel as a loss module."""

from mmseg.registry import MODELS

from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss
from balkd_seg.ops._checks import check_temperature


@MODELS.register_module()
class PixelwiseKLLoss(BalancedDivergenceLoss):
    r"""KL divergence from the teacher's to the student's class distribution, pixel by pixel.

    .. math::
        \lambda \, \tau^2 \, \text{mean} \, KL(p \| q; \tau)

    The mean is over pixels whose label is not ignored (public recipes often keep those too). The
    reverse divergence is reported at the same temperature and does not train.

    Args:
        temperature: Temperature tau, in (0, inf).
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.
        impl: Implementation, as in `balkd_seg.ops.balanced_divergence`.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531
    """

    def __init__(
        self,
        temperature: float = 1.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_kd',
        impl: str = 'auto',
    ) -> None:
        check_temperature('temperature', temperature)
        super().__init__(
            forward_weight=1.0,
            reverse_weight=0.0,
            forward_temperature=temperature,
            reverse_temperature=temperature,
            softmax_axis='classes',
            ignore_index=ignore_index,
            resize=resize,
            align_corners=align_corners,
            loss_weight=loss_weight,
            loss_name=loss_name,
            impl=impl,
        )
