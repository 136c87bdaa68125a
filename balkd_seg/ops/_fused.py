r"""The loss of full-resolution logits in one pass of a Triton kernel.

Every logit is read once and every gradient written once, in fp32 inside. A program takes BLOCK
pixels of an image, or of one of its rows where rows are not contiguous. Sums are partials of
programs, added in a fixed order in fp64: the same result every time. Loads are masked by the
image's edge alone, since a mask from the labels would keep them from being vectorised.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from balkd_seg.ops._fused_kernels import full_resolution, scale
from balkd_seg.ops._select import interpreted
from balkd_seg.ops._types import Problem, Solution, flags

_INT32 = 2**31
# The interpreter's time goes by programs, not by pixels.
INTERPRETED_BLOCK = 1024


class Layout(NamedTuple):
    """Threads a pixel, pixels a program, warps a program."""

    groups: int
    block: int
    num_warps: int


def layout(num_classes: int, num_tiles: int) -> Layout:
    """Return the layout for a number of classes: no register spills, enough loads in flight.

    Args:
        num_classes: From 2 to 256.
        num_tiles: See `num_tiles`; from 5 on, with the cross-entropy for example, a thread takes
            one pixel instead of two, and loads of half precision are 16 bits wide.
    """
    groups = groups_of(num_classes, 20)
    pixels = min(128, 256 // groups)
    return Layout(groups, pixels * (2 if num_tiles < 5 else 1), groups * pixels // 32)


def groups_of(num_classes: int, most: int) -> int:
    """Return over how many threads, a power of two, to spread classes, at most `most` each."""
    return triton.next_power_of_2(triton.cdiv(num_classes, most))


def num_tiles(switches: dict[str, bool], teacher_gradient: bool) -> int:
    """Return about how many values of every class a thread keeps for the gradient."""
    apart = switches['TASK'] and not (switches['UNIT_F'] or switches['UNIT_R'])
    # labels and their arithmetic take as much as two
    temperatures = (not switches['SAME']) * (1 + teacher_gradient)
    return 3 + temperatures + apart + 2 * switches['TASK'] + switches['ENTROPY']


def scale_(tensor: Tensor, factor: Tensor) -> None:
    """Multiply a dense tensor by a 0-dim one on its device, in place."""
    block = 4096
    with device_of(tensor):
        scale[(triton.cdiv(tensor.numel(), block),)](
            tensor, factor, tensor.numel(), BLOCK=block, num_warps=8
        )


def device_of(tensor: Tensor) -> Any:
    """Return a context in which kernels run where the tensor is."""
    return torch.cuda.device_of(tensor)


def temperatures(problem: Problem) -> tuple[float, float, float, float]:
    """Return tau_f, tau_r, tau_h and delta."""
    terms, weighting = problem.terms, problem.weighting
    return (terms.forward_temperature, terms.reverse_temperature, weighting.temperature,
            weighting.delta)  # fmt: skip


def new_sums(problem: Problem, *programs: int) -> Tensor:
    """Return where every program of every image writes its columns of a `Solution`."""
    columns = 5 if problem.weighting.granularity == 'none' else 9
    shape = (len(problem.valid), *programs, columns)
    return torch.empty(shape, dtype=torch.float32, device=problem.valid.device)


class Dense(NamedTuple):
    """What kernels read without strides; of all else, logits and gradients, they get the strides.

    Attributes:
        label: (N, H, W), contiguous: classes, or without a cross-entropy which pixels count.
        ignore_index: The label that does not count.
        weight: (C,), contiguous: class weights, or anything where there are none.
        coefficients: (N, 3), as in `Problem`, contiguous within a row.
    """

    label: Tensor
    ignore_index: int
    weight: Tensor
    coefficients: Tensor

    @classmethod
    def of(cls, problem: Problem) -> 'Dense':
        """Copy what lies otherwise in memory."""
        label, ignore_index = problem.target, problem.ignore_index
        if label is None:
            label, ignore_index = problem.valid.contiguous().view(torch.uint8), 0
        coefficients = problem.coefficients
        if coefficients.stride(1) != 1:
            coefficients = coefficients.contiguous()
        weight = problem.class_weight
        weight = coefficients if weight is None else weight.contiguous()
        return cls(label.contiguous(), ignore_index, weight, coefficients)


def entropies(student_logits: Tensor, teacher_logits: Tensor, problem: Problem) -> Tensor:
    """Return the entropies of both networks; see `balkd_seg.ops._chunked.chunked_entropies`."""
    problem = problem._replace(target=None, class_weight=None)
    return solve(student_logits, teacher_logits, problem, False, False).sums[:, 5:7]


def solve(
    student_logits: Tensor,
    teacher_logits: Tensor,
    problem: Problem,
    student_gradient: bool,
    teacher_gradient: bool,
) -> Solution:
    """Solve a problem over classes whose logits both have the size of `valid`.

    Arguments and result as in `balkd_seg.ops._chunked.chunked`, but gradients come in the dtype of
    their logits.
    """
    num, channels, height, width = student_logits.shape
    student_grad = torch.empty_like(student_logits) if student_gradient else None
    teacher_grad = torch.empty_like(teacher_logits) if teacher_gradient else None
    tensors = [student_logits, teacher_logits]
    tensors += [x if x is not None else student_logits for x in (student_grad, teacher_grad)]
    strides = [list(x.stride()) for x in tensors]
    rows, pixels = height, width
    if width == 1:  # also samples of (N, C) logits
        strides = [[n, c, 0, r] for n, c, r, _ in strides]
    if 1 in (height, width) or all(r == width * p for _, _, r, p in strides):
        rows, pixels = 1, height * width
        strides = [[n, c, 0, p] for n, c, _, p in strides]  # which 16 divides, as a width may not
    dense = Dense.of(problem)
    switches = flags(problem)
    groups, block, num_warps = layout(channels, num_tiles(switches, teacher_gradient))
    if interpreted():
        block = INTERPRETED_BLOCK
    programs = rows * triton.cdiv(pixels, block)
    furthest = max((channels - 1) * c + (pixels - 1) * p for _, c, _, p in strides)
    sums = new_sums(problem, programs)
    with device_of(student_logits):
        full_resolution[(num * programs,)](
            tensors[0], tensors[1], dense.label, dense.weight, dense.coefficients, tensors[2],
            tensors[3], sums, rows, pixels, *(x for four in strides for x in four),
            dense.coefficients.stride(0), *temperatures(problem), dense.ignore_index, C=channels,
            G=groups, K=triton.cdiv(channels, groups), BLOCK=block,
            WIDE=furthest + block >= _INT32, STUDENT_GRAD=student_gradient,
            TEACHER_GRAD=teacher_gradient, **switches, num_warps=num_warps,
        )  # fmt: skip
    total = sums.sum(1, dtype=torch.float64).to(problem.coefficients.dtype)
    return Solution(total, student_grad, teacher_grad)
