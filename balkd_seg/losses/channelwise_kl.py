"""Channel-wise distillation as a loss module."""

from mmseg.registry import MODELS

from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss
from balkd_seg.ops._checks import check_temperature


@MODELS.register_module()
class ChannelwiseKLLoss(BalancedDivergenceLoss):
    r"""KL divergence between the softmax over positions of each channel.

    .. math::
        \lambda \frac{\tau^2}{N C} \sum_{n, c} KL(p_{nc} \| q_{nc}; \tau)

    p_nc is the teacher's, q_nc the student's distribution over the pixels of channel c of image n.
    Unlike in the paper, ignored pixels are left out of both distributions, and images without any
    other pixel out of the mean. The reverse divergence is reported and does not train. The defaults
    are the paper's for logits; compare at their own size (`resize='student'` or 'none') to follow
    it in that as well.

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
        Channel-wise Knowledge Distillation for Dense Prediction,
        https://arxiv.org/abs/2011.13256
    """

    def __init__(
        self,
        temperature: float = 4.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 3.0,
        loss_name: str = 'loss_cwd',
    ) -> None:
        check_temperature('temperature', temperature)
        super().__init__(
            forward_weight=1.0,
            reverse_weight=0.0,
            forward_temperature=temperature,
            reverse_temperature=temperature,
            softmax_axis='positions',
            ignore_index=ignore_index,
            resize=resize,
            align_corners=align_corners,
            loss_weight=loss_weight,
            loss_name=loss_name,
        )
