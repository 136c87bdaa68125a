"""Reverse KL of every pixel as a loss module."""

from mmseg.registry import MODELS

from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss
from balkd_seg.ops._checks import check_temperature


@MODELS.register_module()
class ReverseKLLoss(BalancedDivergenceLoss):
    r"""KL divergence from the student's to the teacher's class distribution, pixel by pixel.

    .. math::
        \lambda \, \tau^2 \, \text{mean} \, KL(q \| p; \tau)

    p is the teacher's, q the student's distribution over classes; the mean is over pixels whose
    label is not ignored. The paper samples text from the student; here every class of every pixel
    is summed exactly. The forward divergence is reported at the same temperature and does not
    train.

    Args:
        temperature: Temperature tau, in (0, inf).
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        MiniLLM: Knowledge Distillation of Large Language Models, https://arxiv.org/abs/2306.08543
    """

    def __init__(
        self,
        temperature: float = 1.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_rkl',
    ) -> None:
        check_temperature('temperature', temperature)
        super().__init__(
            forward_weight=0.0,
            reverse_weight=1.0,
            forward_temperature=temperature,
            reverse_temperature=temperature,
            ignore_index=ignore_index,
            resize=resize,
            align_corners=align_corners,
            loss_weight=loss_weight,
            loss_name=loss_name,
        )
