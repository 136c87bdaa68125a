"""The loss in constant memory: tile by tile, gradients with the values.

Legend: N images, C classes, (H, W) output size. A tile is a band of rows with all classes,
of several images if these are small ('classes'), or a few channel maps of one image ('positions').
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from balkd_seg.ops._resize import Bilinear, Direct, Region, Source
from balkd_seg.ops._tile import Task, loss_tile
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


def _run(
    student_logits: Tensor, teacher_logits: Tensor, problem: Problem, need_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the (N, 5) sums, and the student's gradient."""
    valid, positions, dtype = problem.valid, problem.positions, problem.coefficients.dtype
    height, width = valid.shape[1:]
    num, channels = student_logits.shape[:2]
    tile = TILE if valid.device.type == 'cpu' else ACCELERATOR_TILE
    num_rows = height if positions else max(1, tile // max(1, channels * width))

    def source(logits: Tensor, need_grad: bool) -> Source:
        if logits.shape[2:] == valid.shape[1:]:
            return Direct(logits, dtype, need_grad)
        size = (height, width)
        return Bilinear(logits, dtype, need_grad, size, num_rows, problem.align_corners)

    student, teacher = source(student_logits, need_grad), source(teacher_logits, False)
    sums = torch.zeros(num, 5, dtype=dtype, device=valid.device)
    shape = (num, channels, height, width)
    for region in _channel_maps(shape, tile) if positions else _bands(shape, tile, num_rows):
        s, t = student.read(region), teacher.read(region)
        keep, out, size = valid[region.images, None, region.rows], student.out(region), s.shape
        coefficients = problem.coefficients[region.images, :, None, None]
        if positions:
            s, t = (z.masked_fill_(~keep, EXCLUDED).view(size[1], -1) for z in (s, t))
            out = None if out is None else out.view(size[1], -1)
            keep, coefficients = keep.any().expand(size[1], 1), coefficients[..., 0, 0]
        task = _task(problem, region, keep, channels, dtype)
        tile_sums, gradient = loss_tile(s, t, keep, coefficients, problem.terms, task, out)
        sums[region.images] += tile_sums.sum(0) if positions else tile_sums
        if need_grad:
            student.add(region, gradient.view(size))
    return sums, student.grad


def _task(
    problem: Problem, region: Region, keep: Tensor, num_classes: int, dtype: torch.dtype
) -> Task | None:
    """Return the labels of a tile and the weights of their classes."""
    if problem.target is None:
        return None
    label = problem.target[region.images, None, region.rows].masked_fill(~keep, 0).long()
    classes = label.clamp(0, num_classes - 1)
    weight = keep.to(dtype).masked_fill_(label != classes, torch.nan)  # a label that is no class
    if problem.class_weight is not None:
        weight = weight * problem.class_weight[classes]
    return Task(classes, weight)


def _bands(shape: tuple[int, int, int, int], tile: int, num_rows: int) -> Iterator[Region]:
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


def _channel_maps(shape: tuple[int, int, int, int], tile: int) -> Iterator[Region]:
    """Cut the output into whole channel maps of one image."""
    num, channels, height, width = shape
    step = max(1, tile // max(1, height * width))
    for image in range(num):
        for channel in range(0, channels, step):
            yield Region(slice(image, image + 1), slice(channel, channel + step), slice(0, height))
