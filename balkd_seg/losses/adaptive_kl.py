"""Adaptive KL of every pixel as a loss module."""

from mmseg.registry import MODELS
from torch import Tensor

from balkd_seg.losses._dense_loss import DenseLoss
from balkd_seg.ops import AdaptiveKL, adaptive_kl
from balkd_seg.ops._checks import check_share, check_temperature


@MODELS.register_module()
class AdaptiveKLLoss(DenseLoss):
    r"""Forward and reverse KL, weighed pixel by pixel by where the networks differ.

    .. math::
        \lambda \tau^2 \, \text{mean} [a KL(p \| q) + (1 - a) KL(q \| p)]

    a is the part of |p - q| that lies in the teacher's likeliest classes. See
    `balkd_seg.ops.adaptive_kl`.

    Args:
        head_mass: Probability of the likeliest classes, in (0, 1).
        temperature: Temperature tau, in (0, inf).
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor lambda, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.

    Reference:
        Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models,
        https://arxiv.org/abs/2404.02657
    """

    def __init__(
        self,
        head_mass: float = 0.5,
        temperature: float = 1.0,
        ignore_index: int = 255,
        resize: str = 'label',
        align_corners: bool = False,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_akl',
    ) -> None:
        super().__init__(ignore_index, resize, align_corners, loss_weight, loss_name)
        check_share('head_mass', head_mass)
        check_temperature('temperature', temperature)
        self.head_mass = head_mass
        self.temperature = temperature

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None
    ) -> AdaptiveKL:
        """Return the weighted loss and its detached parts.

        Args:
            student_logits: (N, C, h, w) or (N, C).
            teacher_logits: (N, C, h', w') or (N, C).
            target: (N, H, W) or (N,) labels, or None.
        """
        result = adaptive_kl(
            student_logits,
            teacher_logits,
            target,
            head_mass=self.head_mass,
            temperature=self.temperature,
            **self.sizes(),
        )
        return self.weighed(result)
