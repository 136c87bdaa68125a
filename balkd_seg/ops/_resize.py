"""Bilinear resizing in bands of rows, and its adjoint, as small matrix products.

Legend: N images, C classes, (h, w) logits, (H, W) output. Full-resolution logits never exist: a
band of output rows needs only the few rows of the logits that it interpolates between.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from balkd_seg.ops._types import EXCLUDED, FLOOR

# Columns of the output that one product interpolates; few, so that its matrix is nearly dense.
_COLUMNS = 256


class Region(NamedTuple):
    """A block of the (N, C, H, W) output."""

    images: slice
    channels: slice
    rows: slice


class Source(Protocol):
    """Logits that are read, and whose gradient is collected, region by region."""

    grad: Tensor | None

    def read(self, region: Region) -> Tensor:
        """Return a fresh (n, c, rows, W) tile with excluded classes at `EXCLUDED`.

        A pixel that a NaN or +inf has a share in is NaN, in one of its channels at least.
        """

    def out(self, region: Region) -> Tensor | None:
        """Return the memory that a tile's gradient may be written to, if there is such."""

    def add(self, region: Region, gradient: Tensor) -> None:
        """Collect the gradient of a tile, unless it was written to `out`."""


class _Piece(NamedTuple):
    """A stretch of outputs, the stretch of inputs under it, and the matrix between them."""

    outputs: slice
    inputs: slice
    matrix: Tensor


def _pieces(
    num_inputs: int, num_outputs: int, step: int, align: bool, like: Tensor
) -> list[_Piece]:
    """Cut the interpolation of one axis into stretches of at most `step` outputs.

    Positions are exact integer fractions numerator / denominator, as in `F.interpolate`:
    o (n - 1) / (m - 1) with aligned corners, ((2 o + 1) n - m) / 2 m without, clamped at 0.
    """
    outputs = torch.arange(num_outputs)
    if align:
        numerator, denominator = outputs * (num_inputs - 1), max(num_outputs - 1, 1)
    else:
        numerator = ((2 * outputs + 1) * num_inputs - num_outputs).clamp(min=0)
        denominator = 2 * num_outputs
    low = (numerator // denominator).clamp(max=num_inputs - 1)
    high = (low + 1).clamp(max=num_inputs - 1)
    part = (numerator - low * denominator).double() / denominator
    lows, highs = low.tolist(), high.tolist()
    pieces = []
    for start in range(0, num_outputs, step):
        here = slice(start, min(start + step, num_outputs))
        first, last = lows[here.start], highs[here.stop - 1]
        rows = torch.arange(here.stop - start)
        matrix = torch.zeros(len(rows), last - first + 1, dtype=torch.float64)
        matrix[rows, low[here] - first] += 1 - part[here]
        matrix[rows, high[here] - first] += part[here]
        matrix = matrix.to(like.dtype).to(like.device)
        pieces.append(_Piece(here, slice(first, last + 1), matrix))
    return pieces


class Direct:
    """Source of logits that already have the output's size."""

    def __init__(self, logits: Tensor, dtype: torch.dtype, need_grad: bool) -> None:
        self.logits, self.dtype = logits, dtype
        shape = logits.shape
        self.grad = torch.empty(shape, dtype=dtype, device=logits.device) if need_grad else None

    def read(self, region: Region) -> Tensor:
        return self.logits[region].to(self.dtype).clamp(min=EXCLUDED)

    def out(self, region: Region) -> Tensor | None:
        return None if self.grad is None else self.grad[region]

    def add(self, region: Region, gradient: Tensor) -> None:
        pass


class Bilinear:
    """Source of logits of another size, resized to (H, W) band by band."""

    def __init__(
        self,
        logits: Tensor,
        dtype: torch.dtype,
        need_grad: bool,
        size: tuple[int, int],
        num_rows: int,
        align_corners: bool,
    ) -> None:
        self.logits, self.dtype = logits, dtype
        like = torch.zeros((), dtype=dtype, device=logits.device)
        self.grad = like.new_zeros(logits.shape) if need_grad else None
        height, width = logits.shape[2:]
        bands = _pieces(height, size[0], num_rows, align_corners, like)
        self.bands = {band.outputs.start: band for band in bands}
        self.columns = _pieces(width, size[1], _COLUMNS, align_corners, like)

    def read(self, region: Region) -> Tensor:
        band = self.bands[region.rows.start]
        low = self.logits[region.images, region.channels, band.inputs].to(self.dtype)
        broken = ~(low < torch.inf)  # 0 * NaN would be NaN all over the band
        tile = self._resized(low.masked_fill(broken, 0).clamp_(min=FLOOR), band)
        broken = self._resized(broken.any(1, keepdim=True).to(self.dtype), band) > 0
        tile.clamp_(min=EXCLUDED)[:, :1].masked_fill_(broken, torch.nan)
        return tile

    def _resized(self, low: Tensor, band: _Piece) -> Tensor:
        wide = torch.cat([low[..., c.inputs] @ c.matrix.mT for c in self.columns], -1)
        return band.matrix @ wide

    def out(self, region: Region) -> Tensor | None:
        return None

    def add(self, region: Region, gradient: Tensor) -> None:
        assert self.grad is not None
        band = self.bands[region.rows.start]
        wide = band.matrix.mT @ gradient
        grad = self.grad[region.images, region.channels, band.inputs]
        for columns in self.columns:
            grad[..., columns.inputs] += wide[..., columns.outputs] @ columns.matrix


def source_of(
    logits: Tensor,
    dtype: torch.dtype,
    need_grad: bool,
    size: tuple[int, int],
    num_rows: int,
    align_corners: bool,
) -> Source:
    """Return the source of tiles of at most `num_rows` rows of logits (N, C, h, w) at a size."""
    if logits.shape[2:] == size:
        return Direct(logits, dtype, need_grad)
    return Bilinear(logits, dtype, need_grad, size, num_rows, align_corners)


def bands(shape: tuple[int, int, int, int], tile: int, num_rows: int) -> Iterator[Region]:
    """Cut the output into bands of rows, of several images at once if these are small."""
    num, channels, height, width = shape
    num_images = max(1, tile // max(1, channels * height * width))
    for image in range(0, num, num_images):
        for row in range(0, height, num_rows):
            yield Region(
                slice(image, min(image + num_images, num)),
                slice(None),
                slice(row, min(row + num_rows, height)),
            )
