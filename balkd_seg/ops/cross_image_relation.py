"""CIRKD's mini-batch relations: pixels resemble pixels of other images as they do to the teacher.

Legend: N images, d channels of an embedding, A places of a (pooled) feature map.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from balkd_seg.ops._checks import check_features, check_pool, check_temperature
from balkd_seg.ops._dense import Pair
from balkd_seg.ops._masks import reduce_labels
from balkd_seg.ops._types import EXCLUDED


class CrossImageRelation(NamedTuple):
    """Result of `cross_image_relation`: 0-dim tensors, of which only `loss` has a gradient."""

    loss: Tensor
    agreement: Tensor
    valid: Tensor


def cross_image_relation(
    student_features: Tensor,
    teacher_features: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 0.1,
    pool: int = 1,
    ignore_index: int = 255,
    resize: str = 'student',
    align_corners: bool = False,
    teacher_gradient: bool = False,
) -> CrossImageRelation:
    r"""Compare which pixels of the batch each pixel resembles.

    .. math::
        L = \frac{1}{N^2} \sum_{n, m} \frac{1}{A} \sum_{a}
            KL(\sigma(T_n T_m^\top / \tau)_a \| \sigma(S_n S_m^\top / \tau)_a)

    S_n and T_n are the (A, d) embeddings of image n, each of length 1; sigma is the softmax over
    the places of image m, row by row; channels of the networks may differ. Pairs of an image with
    itself count, as in the paper's code, and tau^2 is not there, as in the paper. Ignored places
    are left out of rows and columns (ours; a pooled place goes by the label of one of its places),
    so that the mean is over pairs of a place and an image that count.

    **The paper's memory bank (pixels and regions of earlier batches) is left out.** Each process
    compares the images of its own batch.

    Computed in fp32 (fp64 for fp64 student features). One image's similarities to all others exist
    at a time, (A, N A) of each network, and are computed again for the gradient; `pool` divides A
    by its square. The student gets a gradient, the teacher on request. Without a place that counts
    the loss is 0 with a zero gradient; identical features give 0.

    Args:
        student_features: (N, d, h, w); floating.
        teacher_features: (N, d', h', w'); floating.
        target: (N, H, W) integer labels, or None if every place counts.
        temperature: Temperature tau of the cosines, in (0, inf).
        pool: Side of the squares of places that are averaged before, at least 1.
        ignore_index: Target value of places that do not count.
        resize: 'student' (the teacher's features are resized), 'none' or 'label', as in
            `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.
        teacher_gradient: Whether the teacher gets a gradient too.

    Returns:
        `loss`; detached: `agreement`, the share of pairs of a place and an image for which both
        networks name the same most similar place; `valid`, the share of places that count, before
        pooling.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit together.

    Example:
        >>> features = torch.randn(2, 8, 3, 3)
        >>> cross_image_relation(features, features).loss
        tensor(0.)

    Reference:
        Cross-Image Relational Knowledge Distillation for Semantic Segmentation,
        https://arxiv.org/abs/2204.06986
    """
    check_temperature('temperature', temperature)
    check_pool(pool)
    check_features(student_features, teacher_features, same_channels=False)
    if not teacher_gradient:
        teacher_features = teacher_features.detach()
    with torch.autocast(student_features.device.type, enabled=False):
        pair = Pair.of(
            student_features, teacher_features, target, ignore_index, resize, align_corners
        )
        s, t = (_embed(z, pool) for z in (pair.student, pair.teacher))
        size = [-(-side // pool) for side in pair.valid.shape[1:]]
        keep = reduce_labels(pair.valid, size).flatten(1)
        sums = [
            checkpoint(
                _relate, s, t, keep, image, temperature, use_reentrant=False,
                preserve_rng_state=False,
            )
            for image in range(len(s))
        ]  # fmt: skip
        count = keep.count_nonzero() * keep.any(1).count_nonzero()
        loss, alike = torch.stack(sums).sum(0) / count.clamp(min=1)
        share = pair.valid.count_nonzero() / max(pair.valid.numel(), 1)
        return CrossImageRelation(loss, alike.detach(), share)


def _embed(features: Tensor, pool: int) -> Tensor:
    """Return embeddings of length 1, (N, A, d)."""
    if pool > 1:
        features = F.avg_pool2d(features, pool, ceil_mode=True)
    return F.normalize(features, dim=1).flatten(2).mT


def _relate(s: Tensor, t: Tensor, keep: Tensor, image: int, temperature: float) -> Tensor:
    """Return the sums over an image's places, and all images, of KL and of equal peaks, (2,).

    Args:
        s: Embeddings of the student, (N, A, d).
        t: Of the teacher.
        keep: Places that count, (N, A).
        image: The image.
        temperature: Of the cosines.
    """
    logits = [z[image] @ z.mT / temperature for z in (s, t)]  # (N, A, A)
    logits = [z.masked_fill(~keep[:, None], EXCLUDED) for z in logits]
    log_q, log_p = (F.log_softmax(z, 2) for z in logits)
    counts = keep[image] & keep.any(1, keepdim=True)
    divergence = (log_p.exp() * (log_p - log_q)).sum(2)
    alike = logits[0].argmax(2) == logits[1].argmax(2)
    sums = [torch.where(counts, x, 0).sum() for x in (divergence, alike)]
    return torch.stack([sums[0], sums[1].to(sums[0].dtype)])
