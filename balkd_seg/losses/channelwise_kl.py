"""Channel-wise distillation as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from balkd_seg.losses._checks import check_loss
from balkd_seg.ops import BalancedDivergence, balanced_divergence
from balkd_seg.ops._checks import check_settings, check_temperature
from balkd_seg.ops._types import Terms


@MODELS.register_module()
class ChannelwiseKLLoss(nn.Module):
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
        super().__init__()
        check_temperature('temperature', temperature)
        check_settings(Terms(1.0, 0.0, temperature, temperature), 'positions', resize)
        check_loss(loss_weight, loss_name)
        self.temperature = temperature
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
        result = balanced_divergence(
            student_logits,
            teacher_logits,
            target,
            reverse_weight=0.0,
            forward_temperature=self.temperature,
            reverse_temperature=self.temperature,
            softmax_axis='positions',
            ignore_index=self.ignore_index,
            resize=self.resize,
            align_corners=self.align_corners,
        )
        return result._replace(loss=self.loss_weight * result.loss)
