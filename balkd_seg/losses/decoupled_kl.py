"""Decoupled distillation of every pixel as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import DecoupledKL, decoupled_kl
from balkd_seg.ops._checks import check_part_weights, check_temperature


@MODELS.register_module()
class DecoupledKLLoss(DenseLoss):
    r"""Forward KL of the labelled class, and of the others, each with its own weight.

    .. math::
        \lambda \tau^2 \, \text{mean} [\alpha KL(b_p \| b_q) + \beta KL(\hat p \| \hat q)]

    b_p = (p_y, 1 - p_y) for the label y, \hat p the softmax over the other classes. See
    `balkd_seg.ops.decoupled_kl`.

    Args:
        alpha: Weight of the labelled class's part, in [0, inf).
        beta: Weight of the other classes' part, in [0, inf); one of the two is positive.
        temperature: Temperature tau, in (0, inf).
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        Decoupled Knowledge Distillation, https://arxiv.org/abs/2203.08679
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.5,
        temperature: float = 1.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_dkd',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)
        check_part_weights(alpha=alpha, beta=beta)
        check_temperature('temperature', temperature)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor | None = None,
        teacher_gradient: bool = False,
    ) -> DecoupledKL:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels.
            teacher_gradient: Whether the teacher gets a gradient too.
        """
        result = decoupled_kl(
            student_logits,
            teacher_logits,
            target,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            teacher_gradient=teacher_gradient,
            **self.sizes(),
        )
        return self.weighed(result)
