"""What the operator computes, by the chunked implementation or by the fused kernels."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from balkd_seg.ops._chunked import chunked, chunked_entropies
from balkd_seg.ops._types import Problem, Solution, Weighting, entropy_weights


def compute(
    name: str,
    student_logits: Tensor,
    teacher_logits: Tensor,
    problem: Problem,
    student_gradient: bool,
    teacher_gradient: bool,
) -> Solution:
    """Solve a problem with entropies weighted by pixel, by image, or not at all.

    Args:
        name: 'chunked' or 'fused'.
        student_logits: As in `balkd_seg.ops._chunked.chunked`, like the others.
        teacher_logits: See above.
        problem: See above.
        student_gradient: See above.
        teacher_gradient: See above.

    Returns:
        A solution with gradients in a dtype of the implementation's choice.
    """
    run, entropies_of = _implementation(name, student_logits, teacher_logits, problem)
    wanted = student_gradient, teacher_gradient
    if problem.weighting.granularity != 'image':
        return run(student_logits, teacher_logits, problem, *wanted)
    entropies = entropies_of(student_logits, teacher_logits, problem)
    factors = torch.stack(entropy_weights(entropies.mT, problem.weighting.delta), 1)
    scaled_by = torch.cat((factors, torch.ones_like(factors[:, :1])), 1)
    unweighted = problem._replace(
        coefficients=problem.coefficients * scaled_by, weighting=Weighting()
    )
    sums, *gradients = run(student_logits, teacher_logits, unweighted, *wanted)
    return Solution(torch.cat((sums, entropies, factors * sums[:, :2]), 1), *gradients)


def _implementation(
    name: str, student: Tensor, teacher: Tensor, problem: Problem
) -> tuple[Callable[..., Solution], Callable[..., Tensor]]:
    """Return what solves the problem, and what sums the entropies of both networks."""
    if name == 'chunked':
        return chunked, chunked_entropies
    # Imported where it is used: Triton is there with CUDA builds of PyTorch only.
    file = '_fused' if is_full(student, teacher, problem.valid) else '_fused_upsample'
    module = importlib.import_module(f'balkd_seg.ops.{file}')
    return module.solve, module.entropies


def is_full(student: Tensor, teacher: Tensor, valid: Tensor) -> bool:
    """Return whether nothing has to be resized."""
    return student.shape[2:] == teacher.shape[2:] == valid.shape[1:]
