"""FitNets: the student's features equal the teacher's."""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._checks import check_features
from balkd_seg.ops._dense import Pair


class FeatureMimicking(NamedTuple):
    """Result of `feature_mimicking`: 0-dim tensors, of which only `loss` carries a gradient."""

    loss: Tensor
    cosine: Tensor
    valid: Tensor


def feature_mimicking(
    student_features: Tensor,
    teacher_features: Tensor,
    target: Tensor | None = None,
    *,
    ignore_index: int = 255,
    resize: str = 'student',
    align_corners: bool = False,
) -> FeatureMimicking:
    r"""Take the mean squared difference of features.

    .. math::
        L = \frac{1}{C |V|} \sum_{i \in V} \| u_i - v_i \|^2

    u are the student's features, after a projection where channels differ, v the teacher's, C the
    channels and V the places of the feature maps whose label is not ignored. The paper has half of
    the sum and trains this first and alone; here it is a term beside the others. Leaving out
    ignored places is ours: features look beyond their place, so that it is a choice, not a need.

    Computed in fp32 (fp64 for fp64 student features), at the size of the features: 'label' would
    enlarge them without need. The student gets a gradient. Without a place that counts the loss is
    0 with a zero gradient; identical features give 0.

    Args:
        student_features: (N, C, h, w); floating.
        teacher_features: (N, C, h', w'); floating.
        target: (N, H, W) integer labels, or None if every place counts.
        ignore_index: Target value of places that do not count.
        resize: 'student' (the teacher's features are resized), 'none' or 'label', as in
            `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.

    Returns:
        `loss`; detached: `cosine`, the mean cosine of both networks' features at a place; `valid`,
        the share of places that count.

    Raises:
        ValueError: If shapes do not fit together.

    Example:
        >>> student, teacher = torch.zeros(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0)
        >>> feature_mimicking(student, teacher).loss
        tensor(9.)

    Reference:
        FitNets: Hints for Thin Deep Nets, https://arxiv.org/abs/1412.6550
    """
    check_features(student_features, teacher_features, same_channels=True)
    with torch.autocast(student_features.device.type, enabled=False):
        pair = Pair.of(
            student_features, teacher_features.detach(), target, ignore_index, resize, align_corners
        )
        num_valid = pair.valid.count_nonzero()
        count = num_valid.clamp(min=1).to(pair.student.dtype)
        squares = (pair.student - pair.teacher).square().mean(1)
        loss = torch.where(pair.valid, squares, 0).sum() / count
        with torch.no_grad():
            cosine = torch.cosine_similarity(pair.student, pair.teacher)
            cosine = torch.where(pair.valid, cosine, 0).sum() / count
        return FeatureMimicking(loss, cosine, num_valid / max(pair.valid.numel(), 1))
