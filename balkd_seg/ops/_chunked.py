"""The loss in constant memory: tile by tile, gradients with the values.

Legend: N images, C classes, (H, W) output size. A tile is a band of rows with all classes,
of several images if these are small ('classes'), or a few channel maps of one image ('positions').
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._resize import Region, Source, bands, source_of
from balkd_seg.ops._tile import Task, entropy, loss_tile
from balkd_seg.ops._types import EXCLUDED, Problem, Solution, Terms

# Elements of one tile. Twice as many are a tenth faster on two cores, with twice the temporaries.
TILE = 19 * 8192
# On an accelerator every tile costs some forty launches: fewer and larger ones.
ACCELERATOR_TILE = 64 * TILE


def chunked(
    student_logits: Tensor,
    teacher_logits: Tensor,
    problem: Problem,
    student_gradient: bool,
    teacher_gradient: bool,
) -> Solution:
    """Solve a problem without full-resolution temporaries.

    Args:
        student_logits: (N, C, h, w), float.
        teacher_logits: (N, C, h', w'), float.
        problem: What is asked for.
        student_gradient: Whether the student's gradient is wanted.
        teacher_gradient: Whether the teacher's is.

    Returns:
        Sums, and gradients in the dtype of the sums.
    """
    sums, gradient = _run(student_logits, teacher_logits, problem, student_gradient)
    other = None
    if teacher_gradient:  # what the teacher gets is what a student gets with the roles exchanged
        _, other = _run(teacher_logits, student_logits, exchanged(problem), True)
    return Solution(sums, gradient, other)


def exchanged(problem: Problem) -> Problem:
    """Return the divergences with student and teacher exchanged, without the cross-entropy."""
    forward_weight, reverse_weight, forward_temperature, reverse_temperature = problem.terms
    return problem._replace(
        target=None,
        class_weight=None,
        coefficients=problem.coefficients.flip(1).roll(-1, 1),
        terms=Terms(reverse_weight, forward_weight, reverse_temperature, forward_temperature),
    )


def chunked_entropies(student_logits: Tensor, teacher_logits: Tensor, problem: Problem) -> Tensor:
    """Return the student's and the teacher's entropy, summed over the units of each image, (N, 2).

    Arguments as in `chunked`; entropies at the temperature of the problem's weighting, in nats.
    """
    temperature, dtype = problem.weighting.temperature, problem.coefficients.dtype
    sums = torch.zeros(len(problem.valid), 2, dtype=dtype, device=problem.valid.device)
    for tile in _tiles(_Pair.of(student_logits, teacher_logits, problem, False), problem):
        parts = [entropy(z, temperature) for z in (tile.student, tile.teacher)]
        tile_sums = [torch.where(tile.keep, x, 0).flatten(1).sum(1) for x in parts]
        stacked = torch.stack(tile_sums, 1)
        sums[tile.region.images] += stacked.sum(0) if problem.positions else stacked
        del tile
    return sums


class _Pair(NamedTuple):
    """Where the tiles of both networks come from, and the regions they cover."""

    student: Source
    teacher: Source
    cut: list[Region]

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor, problem: Problem, need_grad: bool) -> '_Pair':
        valid, dtype = problem.valid, problem.coefficients.dtype
        height, width = valid.shape[1:]
        elements = TILE if valid.device.type == 'cpu' else ACCELERATOR_TILE
        shape = (*student.shape[:2], height, width)
        num_rows = max(1, elements // max(1, shape[1] * width))
        if problem.positions:
            num_rows = height

        def source(logits: Tensor, need_grad: bool) -> Source:
            size = (height, width)
            return source_of(logits, dtype, need_grad, size, num_rows, problem.align_corners)

        cut = bands(shape, elements, num_rows)
        if problem.positions:
            cut = _channel_maps(shape, elements)
        return cls(source(student, need_grad), source(teacher, False), list(cut))


class _Tile(NamedTuple):
    """What `loss_tile` takes of a region; `shape` is that of the logits before any flattening."""

    region: Region
    student: Tensor
    teacher: Tensor
    keep: Tensor
    coefficients: Tensor
    out: Tensor | None
    shape: torch.Size


def _tiles(pair: _Pair, problem: Problem) -> Iterator[_Tile]:
    """Read the output tile by tile."""
    valid = problem.valid
    for region in pair.cut:
        s, t = pair.student.read(region), pair.teacher.read(region)
        keep, out, size = valid[region.images, None, region.rows], pair.student.out(region), s.shape
        coefficients = problem.coefficients[region.images, :, None, None]
        if problem.positions:
            s, t = (z.masked_fill_(~keep, EXCLUDED).reshape(size[1], -1) for z in (s, t))
            out = None if out is None else out.view(size[1], -1)
            keep, coefficients = keep.any().expand(size[1], 1), coefficients[..., 0, 0]
        yield _Tile(region, s, t, keep, coefficients, out, size)
        del s, t, out  # before the next tile is read, here as where the tiles go


def _run(
    student_logits: Tensor, teacher_logits: Tensor, problem: Problem, need_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the sums of a `Solution`, and the student's gradient."""
    num, channels = student_logits.shape[:2]
    dtype = problem.coefficients.dtype
    pair = _Pair.of(student_logits, teacher_logits, problem, need_grad)
    columns = 5 if problem.weighting.granularity == 'none' else 9
    sums = torch.zeros(num, columns, dtype=dtype, device=problem.valid.device)
    for tile in _tiles(pair, problem):
        task = _task(problem, tile.region, tile.keep, channels, dtype)
        tile_sums, gradient = loss_tile(
            tile.student, tile.teacher, tile.keep, tile.coefficients, problem.terms,
            problem.weighting, task, tile.out,
        )  # fmt: skip
        sums[tile.region.images] += tile_sums.sum(0) if problem.positions else tile_sums
        if need_grad:
            pair.student.add(tile.region, gradient.view(tile.shape))
        del tile, gradient
    return sums, pair.student.grad


def _task(
    problem: Problem, region: Region, keep: Tensor, num_classes: int, dtype: torch.dtype
) -> Task | None:
    """Return the labels of a tile and the weights of their classes."""
    if problem.target is None:
        return None
    label = problem.target[region.images, None, region.rows].masked_fill(~keep, 0).long()
    classes = label.clamp(0, num_classes - 1)
    known = label == classes
    weight = (keep & known).to(dtype)
    if problem.class_weight is not None:
        weight = weight * problem.class_weight[classes]
    return Task(classes, weight, known)


def _channel_maps(shape: tuple[int, int, int, int], tile: int) -> Iterator[Region]:
    """Cut the output into whole channel maps of one image."""
    num, channels, height, width = shape
    step = max(1, tile // max(1, height * width))
    for image in range(num):
        for channel in range(0, channels, step):
            yield Region(slice(image, image + 1), slice(channel, channel + step), slice(0, height))
