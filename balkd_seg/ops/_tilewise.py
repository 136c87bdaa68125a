"""Means over pixels of any formula, in constant memory: tile by tile, gradients with the values.

A formula sees a tile of both networks' logits at the size of comparison and differentiates by
autograd; full-resolution logits, probabilities and graphs never exist.
Legend: N images, C classes, (h, w) logits, (H, W) size of comparison.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from balkd_seg.ops import _chunked
from balkd_seg.ops._checks import check_choice, check_logits, check_target
from balkd_seg.ops._masks import reduce_labels, valid_pixels
from balkd_seg.ops._resize import Region, bands, source_of


class Tile(NamedTuple):
    """What a formula sees: n images, a band of rows.

    Attributes:
        student: Logits (n, C, rows, W), excluded classes at a large negative number; 0 where
            pixels are ignored.
        teacher: The same of the teacher.
        label: (n, rows, W) classes, 0 where ignored, or None without a target.
    """

    student: Tensor
    teacher: Tensor
    label: Tensor | None


# The loss of every pixel first, then what is watched, each (n, rows, W).
Formula = Callable[[Tile], Sequence[Tensor]]


def pixel_means(
    formula: Formula,
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None,
    *,
    ignore_index: int,
    resize: str,
    align_corners: bool,
    teacher_gradient: bool = False,
) -> tuple[Tensor, ...]:
    """Average a formula over the pixels that count.

    Args:
        formula: The loss of every pixel and what is watched.
        student_logits: (N, C, h, w) or (N, C); floating.
        teacher_logits: (N, C, h', w') or (N, C); floating.
        target: (N, H, W) or (N,) labels, or None.
        ignore_index: Label that does not count.
        resize: 'label', 'student' or 'none', as in `balanced_divergence`.
        align_corners: As in `torch.nn.functional.interpolate`.
        teacher_gradient: Whether the teacher gets a gradient too.

    Returns:
        The mean of the loss, which carries a gradient (once); the detached means of the rest; the
        share of pixels that count.

    Raises:
        ValueError: If shapes or sizes do not fit together.
    """
    check_choice('resize', resize, ('label', 'none', 'student'))
    check_logits(student_logits, teacher_logits, 'classes')
    check_target(student_logits, teacher_logits, target, resize)
    with torch.autocast(student_logits.device.type, enabled=False):
        valid = valid_pixels(student_logits, target, ignore_index, resize)
        if target is not None and resize != 'label':
            target = reduce_labels(target, student_logits.shape[2:])
        if student_logits.ndim == 2:  # samples are the pixels of one image
            student_logits, teacher_logits = (
                z.mT[None, :, :, None] for z in (student_logits, teacher_logits)
            )
            valid = valid[None, :, None]
            target = None if target is None else target[None, :, None]
        if not teacher_gradient:
            teacher_logits = teacher_logits.detach()
        grad = torch.is_grad_enabled()
        wanted = [grad and z.requires_grad for z in (student_logits, teacher_logits)]
        loss, watched = _Sums.apply(
            student_logits, teacher_logits, formula, target, valid, align_corners, wanted
        )
        num_valid = valid.count_nonzero()
        count = num_valid.clamp(min=1).to(loss.dtype)
        share = num_valid / max(valid.numel(), 1)
        return (loss / count, *(watched / count).unbind(), share)


class _Sums(torch.autograd.Function):
    """Sums of a formula over valid pixels, with the gradient of the first."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        formula: Formula,
        target: Tensor | None,
        valid: Tensor,
        align_corners: bool,
        wanted: list[bool],
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(student.dtype, torch.float32)
        num, num_classes, height, width = len(valid), student.shape[1], *valid.shape[1:]
        cpu = valid.device.type == 'cpu'
        elements = _chunked.TILE if cpu else _chunked.ACCELERATOR_TILE
        num_rows = max(1, elements // max(1, num_classes * width))
        sources = [
            source_of(z, dtype, want, (height, width), num_rows, align_corners)
            for z, want in zip((student, teacher), wanted, strict=True)
        ]
        sums = []
        for region in bands((num, num_classes, height, width), elements, num_rows):
            tiles = [source.read(region) for source in sources]
            keep = valid[region.images, region.rows]
            for tile in tiles:  # what is ignored must not matter, not even NaN
                tile.masked_fill_(~keep[:, None], 0)
            sums.append(_tile_sums(formula, tiles, _labels(target, keep, region), keep, wanted))
            for source, tile, want in zip(sources, tiles, wanted, strict=True):
                if want:
                    assert tile.grad is not None
                    out = source.out(region)
                    if out is not None:
                        out.copy_(tile.grad)
                    source.add(region, tile.grad)
            del tiles, tile  # before the next are read
        total = torch.stack(sums).sum(0)
        ctx.save_for_backward(*(source.grad for source in sources))
        ctx.dtypes = (student.dtype, teacher.dtype)
        loss, watched = total[0].clone(), total[1:].clone()
        ctx.mark_non_differentiable(watched)
        return loss, watched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if g is None else (g * grad_loss).to(d) for g, d in pairs), *[None] * 5)


def _labels(target: Tensor | None, keep: Tensor, region: Region) -> Tensor | None:
    if target is None:
        return None
    return target[region.images, region.rows].masked_fill(~keep, 0).long()


def _tile_sums(
    formula: Formula,
    logits: list[Tensor],
    label: Tensor | None,
    keep: Tensor,
    wanted: list[bool],
) -> Tensor:
    """Return the sums of a tile, detached, and leave the gradient of the first in `logits`."""
    with torch.enable_grad():
        for tile, want in zip(logits, wanted, strict=True):
            tile.requires_grad_(want)
        parts = formula(Tile(logits[0], logits[1], label))
        loss = torch.where(keep, parts[0], 0).sum()
    if any(wanted):
        loss.backward()
    watched = [torch.where(keep, part.detach(), 0).sum().to(loss.dtype) for part in parts[1:]]
    return torch.stack([loss.detach(), *watched])
