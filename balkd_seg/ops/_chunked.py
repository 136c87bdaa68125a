"""Balanced divergence in constant memory: tile by tile, gradients in the forward pass.

Legend: N images, C classes, (H, W) output size. A tile is a band of rows with all classes,
of several images if these are small ('classes'), or a few channel maps of one image ('positions').
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from balkd_seg.ops._resize import Bilinear, Direct, Region, Source
from balkd_seg.ops._tile import divergence_tile
from balkd_seg.ops._types import EXCLUDED, Sums, Terms

# Elements of one tile. Twice as many are a tenth faster on two cores, with twice the temporaries.
TILE = 19 * 8192


def chunked(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    terms: Terms,
    *,
    softmax_axis: str,
    align_corners: bool,
) -> Sums:
    """Sum the divergences of all softmax units without full-resolution temporaries.

    Arguments and result as in `balkd_seg.ops.reference.reference`, but only the student receives
    a gradient, and only a first one.
    """
    need_grad = torch.is_grad_enabled() and student_logits.requires_grad
    positions = softmax_axis == 'positions'
    loss, parts = _Chunked.apply(
        student_logits, teacher_logits, valid, terms, positions, align_corners, need_grad
    )
    units = (
        valid.flatten(1).any(1).sum() * student_logits.shape[1]
        if positions
        else valid.count_nonzero()
    )
    return Sums(loss, parts[0], parts[1], parts[2], units)


class _Chunked(torch.autograd.Function):
    """Computes the gradient with the value and keeps only the former."""

    @staticmethod
    def forward(
        ctx: Any,
        student_logits: Tensor,
        teacher_logits: Tensor,
        valid: Tensor,
        terms: Terms,
        positions: bool,
        align_corners: bool,
        need_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        sums, gradient = _run(
            student_logits, teacher_logits, valid, terms, positions, align_corners, need_grad
        )
        loss, parts = sums[0], sums[1:]
        ctx.mark_non_differentiable(parts)
        ctx.save_for_backward(gradient)
        ctx.dtype = student_logits.dtype
        return loss, parts

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                'balanced_divergence keeps no graph for a second derivative (create_graph=True); '
                "pass impl='reference' where one is needed"
            )
        # Out of place: with retain_graph=True the saved gradient is used again.
        gradient = (ctx.saved_tensors[0] * grad_loss).to(ctx.dtype)
        return gradient, None, None, None, None, None, None


def _run(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    terms: Terms,
    positions: bool,
    align_corners: bool,
    need_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Return the (4,) sums of loss, forward, reverse, agreement, and the student's gradient."""
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    height, width = valid.shape[1:]
    num_rows = height if positions else _band_height(student_logits.shape[1], width)

    def source(logits: Tensor, need_grad: bool) -> Source:
        if logits.shape[2:] == valid.shape[1:]:
            return Direct(logits, dtype, need_grad)
        return Bilinear(logits, dtype, need_grad, (height, width), num_rows, align_corners)

    student, teacher = source(student_logits, need_grad), source(teacher_logits, False)
    sums = [torch.zeros(4, dtype=dtype, device=valid.device)]
    num, channels = student_logits.shape[:2]
    regions = _channel_maps if positions else _bands
    for region in regions(num, channels, height, width):
        s, t = student.read(region), teacher.read(region)
        keep, out, tile = valid[region.images, None, region.rows], student.out(region), s.shape
        if positions:
            s, t = (z.masked_fill_(~keep, EXCLUDED).view(tile[1], -1) for z in (s, t))
            out = None if out is None else out.view(tile[1], -1)
            keep = keep.any().expand(tile[1], 1)
        tile_sums, gradient = divergence_tile(s, t, keep, terms, out)
        sums.append(tile_sums)
        if need_grad:
            student.add(region, gradient.view(tile))
    return torch.stack(sums).sum(0), student.grad


def _band_height(channels: int, width: int) -> int:
    return max(1, TILE // max(1, channels * width))


def _bands(num: int, channels: int, height: int, width: int) -> Iterator[Region]:
    """Cut the output into bands of rows, of several images at once if these are small."""
    num_rows = _band_height(channels, width)
    num_images = max(1, TILE // max(1, channels * height * width))
    for image in range(0, num, num_images):
        for row in range(0, height, num_rows):
            yield Region(
                slice(image, min(image + num_images, num)),
                slice(None),
                slice(row, min(row + num_rows, height)),
            )


def _channel_maps(num: int, channels: int, height: int, width: int) -> Iterator[Region]:
    """Cut the output into whole channel maps of one image."""
    step = max(1, TILE // max(1, height * width))
    for image in range(num):
        for channel in range(0, channels, step):
            yield Region(slice(image, image + 1), slice(channel, channel + step), slice(0, height))
