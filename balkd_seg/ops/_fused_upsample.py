"""The loss of low-resolution logits against full-resolution labels, in one pass on the GPU.

Full-resolution logits never exist; `_fused_upsample_kernels.py` says how. What does is the scratch
of the cells, in fp32: 4 / r^2 of a full-size tensor of logits at ratio r. That is a sixteenth at
ratio 8, but four such tensors, and one for the gradient, where the student's logits have the size
of the labels and only the teacher's have not; if that is too much, upsample the teacher's first.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from balkd_seg.ops._chunked import exchanged
from balkd_seg.ops._fused import (
    Dense,
    device_of,
    groups_of,
    new_sums,
    num_tiles,
    temperatures,
)
from balkd_seg.ops._fused_gather import gather
from balkd_seg.ops._fused_upsample_kernels import upsampled
from balkd_seg.ops._types import Problem, Solution, flags

_GATHER_BLOCK = 128


class Layout(NamedTuple):
    """Threads a pixel, columns a program, warps a program."""

    groups: int
    columns: int
    num_warps: int


def layout(num_classes: int, num_tiles: int) -> Layout:
    """Return the layout for a number of classes: no register spills.

    Args:
        num_classes: From 2 to 256.
        num_tiles: See `num_tiles`; from 7 on, or 6 with many classes, a thread takes half of them.
    """
    half = num_tiles > 6 or (num_tiles == 6 and num_classes > 40)
    groups = groups_of(num_classes, 10 if half else 20)
    columns = 128 if groups == 1 else 256 // groups
    return Layout(groups, columns, groups * columns // 32)


class Cells(NamedTuple):
    """How programs share out the columns of cells: several cells each, or several for each cell.

    Attributes:
        width: Columns of a cell that a program takes, a power of two.
        strip: Cells of a program; 1 where a cell is cut.
        chunks: Programs of a cell.
    """

    width: int
    strip: int
    chunks: int

    @classmethod
    def of(cls, num_in: int, num_out: int, align: bool, columns: int) -> 'Cells':
        """Cut an axis of `num_in` logits and `num_out` outputs for programs of `columns`."""
        widest = triton.cdiv(num_out - 1, num_in - 1) if align else triton.cdiv(num_out, num_in)
        width = min(columns, triton.next_power_of_2(widest))
        return cls(width, columns // width, triton.cdiv(widest, width))


def solve(
    student_logits: Tensor,
    teacher_logits: Tensor,
    problem: Problem,
    student_gradient: bool,
    teacher_gradient: bool,
) -> Solution:
    """Solve a problem over classes whose logits are upsampled to `valid`, each from its own size.

    Arguments and result as in `balkd_seg.ops._chunked.chunked`.
    """
    sums, gradient = _run(student_logits, teacher_logits, problem, student_gradient)
    other = None
    if teacher_gradient:  # what the teacher gets is what a student gets with the roles exchanged
        _, other = _run(teacher_logits, student_logits, exchanged(problem), True)
    return Solution(sums, gradient, other)


def entropies(student_logits: Tensor, teacher_logits: Tensor, problem: Problem) -> Tensor:
    """Return the entropies of both networks; see `balkd_seg.ops._chunked.chunked_entropies`."""
    problem = problem._replace(target=None, class_weight=None)
    return _run(student_logits, teacher_logits, problem, False)[0][:, 5:7]


def _run(
    student_logits: Tensor, teacher_logits: Tensor, problem: Problem, need_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the sums of a `Solution`, and the student's gradient."""
    num, channels, h, w = student_logits.shape
    th, tw = teacher_logits.shape[2:]
    height, width = problem.valid.shape[1:]
    align_h, align_w, teacher_align_h, teacher_align_w = (
        problem.align_corners and size > 1 for size in (h, w, th, tw)
    )
    cell_rows, cell_columns = (h if align_h else h + 1), (w if align_w else w + 1)
    switches = flags(problem)
    groups, columns, num_warps = layout(channels, num_tiles(switches, False))
    cells = Cells.of(w, width, align_w, columns)
    strips = triton.cdiv(cell_columns, cells.strip) * cells.chunks
    dense = Dense.of(problem)
    size = (num, cell_rows, 4, channels, strips * cells.strip) if need_grad else (1,)
    corners = student_logits.new_empty(size, dtype=torch.float32)
    sums = new_sums(problem, cell_rows, strips)
    with device_of(student_logits):
        upsampled[(num * cell_rows * strips,)](
            student_logits, teacher_logits, dense.label, dense.weight, dense.coefficients,
            corners, sums, h, w, th, tw, height, width, cells.chunks,
            *student_logits.stride(), *teacher_logits.stride(), dense.coefficients.stride(0),
            *temperatures(problem), dense.ignore_index, C=channels, G=groups,
            K=triton.cdiv(channels, groups), CELLS=cells.strip,
            CELL_WIDTH=cells.width, ALIGN_H=align_h, ALIGN_W=align_w,
            TEACHER_ALIGN_H=teacher_align_h, TEACHER_ALIGN_W=teacher_align_w,
            SAME_GRID=(h, w) == (th, tw), STUDENT_GRAD=need_grad, **switches,
            num_warps=num_warps,
        )  # fmt: skip
    total = sums.sum((1, 2), dtype=torch.float64).to(problem.coefficients.dtype)
    if not need_grad:
        return total, None
    gradient = torch.empty(student_logits.shape, dtype=torch.float32, device=corners.device)
    block = max(32, min(_GATHER_BLOCK, triton.next_power_of_2(w)))  # a warp at least
    with device_of(student_logits):
        gather[(num * channels * h * triton.cdiv(w, block),)](
            corners, gradient, channels, h, w, cells.chunks, strips * cells.strip,
            CHUNKED=cells.chunks > 1, ALIGN_H=align_h, ALIGN_W=align_w, BLOCK=block,
            num_warps=block // 32,
        )  # fmt: skip
    return total, gradient
