"""Generalised Jensen-Shannon divergence of every pixel as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import JensenShannon, jensen_shannon
from balkd_seg.ops._checks import check_share, check_temperature


@MODELS.register_module()
class JensenShannonLoss(DenseLoss):
    r"""Divergence of teacher and student from their mixture, pixel by pixel.

    .. math::
        \lambda \tau^2 \, \text{mean} [\beta KL(p \| m) + (1 - \beta) KL(q \| m)],
        \quad m = \beta p + (1 - \beta) q

    See `balkd_seg.ops.jensen_shannon`.

    Args:
        beta: Weight of the teacher in the mixture, in (0, 1).
        temperature: Temperature tau, in (0, inf).
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes,
        https://arxiv.org/abs/2306.13649
    """

    def __init__(
        self,
        beta: float = 0.5,
        temperature: float = 1.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_jsd',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)
        check_share('beta', beta)
        check_temperature('temperature', temperature)
        self.beta = beta
        self.temperature = temperature

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None
    ) -> JensenShannon:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels, or None.
        """
        result = jensen_shannon(
            student_logits,
            teacher_logits,
            target,
            beta=self.beta,
            temperature=self.temperature,
            **self.sizes(),
        )
        return self.weighed(result)
