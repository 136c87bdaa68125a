"""The operator behind `balanced_divergence`: what autograd, torch.compile and CUDA graphs see.

The gradient is computed with the value (`gradient='save'`), so that backward is one product. Where
the gradient's dtype cannot hold it before it is scaled up (fp16 under a GradScaler), backward
computes it again from the inputs, already scaled (`gradient='recompute'`).
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from balkd_seg.ops import _registration
from balkd_seg.ops._compute import compute, is_full
from balkd_seg.ops._trust import is_trusted, may_scale
from balkd_seg.ops._types import Problem, Terms, Weighting, total

SCHEMA = (
    '(Tensor student_logits, Tensor teacher_logits, Tensor valid, Tensor? target, '
    'Tensor? class_weight, Tensor coefficients, Tensor temperatures, bool forward, '
    'bool reverse, bool positions, bool align_corners, SymInt ignore_index, str granularity, '
    'str impl, str gradient, bool student_gradient, bool teacher_gradient) '
    '-> (Tensor, Tensor, Tensor, Tensor, Tensor)'
)


def solve(
    impl: str,
    student_logits: Tensor,
    teacher_logits: Tensor,
    problem: Problem,
    teacher_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, with the gradients that are asked for, its three terms, and the sums."""
    grad = torch.is_grad_enabled()
    student_gradient = grad and student_logits.requires_grad
    teacher_gradient = grad and teacher_gradient and teacher_logits.requires_grad
    saved = 'none'
    if student_gradient or teacher_gradient:
        wanted = ((student_logits, student_gradient), (teacher_logits, teacher_gradient))
        half = any(z.dtype == torch.float16 for z, want in wanted if want)
        full = is_full(student_logits, teacher_logits, problem.valid)
        saved = 'recompute' if impl != 'chunked' and half and full else 'save'
    terms, weighting = problem.terms, problem.weighting
    temperatures = _on_host(  # by name: PyTorch 2.6 cannot trace a slice of a named tuple
        terms.forward_temperature, terms.reverse_temperature, weighting.delta,
        weighting.temperature,
    )  # fmt: skip
    return balanced_divergence(
        student_logits, teacher_logits, problem.valid, problem.target, problem.class_weight,
        problem.coefficients, temperatures, terms.forward_weight > 0, terms.reverse_weight > 0,
        problem.positions, problem.align_corners, problem.ignore_index, weighting.granularity,
        impl, saved, student_gradient, teacher_gradient,
    )[:3]  # fmt: skip


def _on_host(*numbers: float) -> Tensor:
    """Return numbers as a tensor, which a compiled graph takes with other numbers too.

    As arguments of an operator they would be constants of the graph, and every new temperature a
    new compilation; of all ways to make a tensor, only products leave them open.
    """
    one = torch.ones((), dtype=torch.float64, device='cpu')
    return torch.stack([one * number for number in numbers])


@_registration.operator('balkd_seg::balanced_divergence', SCHEMA)
def balanced_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    valid: Tensor,
    target: Tensor | None,
    class_weight: Tensor | None,
    coefficients: Tensor,
    temperatures: Tensor,
    forward: bool,
    reverse: bool,
    positions: bool,
    align_corners: bool,
    ignore_index: int,
    granularity: str,
    impl: str,
    gradient: str,
    student_gradient: bool,
    teacher_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return loss, its terms, sums and both gradients, empty ones where none is wanted.

    Args:
        student_logits: (N, C, h, w).
        teacher_logits: (N, C, h', w').
        valid: As in `Problem`, like `target`, `class_weight`, `coefficients` and others.
        target: See above.
        class_weight: See above.
        coefficients: See above.
        temperatures: (4,), fp64, on the host: tau_f, tau_r, delta and the entropies' temperature.
        forward: Whether the forward divergence takes part in the loss.
        reverse: Whether the reverse one does.
        positions: See above.
        align_corners: See above.
        ignore_index: See above.
        granularity: Of the weighting by entropy.
        impl: 'chunked', 'fused', or 'auto': fused if these kernels have been found right here.
        gradient: 'none', 'save' or 'recompute'.
        student_gradient: Whether the student gets a gradient.
        teacher_gradient: Whether the teacher gets one.
    """
    tau_f, tau_r, *weighting = temperatures.tolist()
    problem = Problem(
        valid, target, class_weight, coefficients, Terms(forward, reverse, tau_f, tau_r), positions,
        align_corners, ignore_index, Weighting(granularity, *weighting),
    )  # fmt: skip
    pair = student_logits, teacher_logits
    now = gradient == 'save'
    wanted = now and student_gradient, now and teacher_gradient
    trusted = impl != 'chunked' and is_trusted(*pair, problem, wanted, impl == 'fused')
    solution = compute('fused' if trusted else 'chunked', *pair, problem, *wanted)
    parts = total(solution.sums, coefficients)
    like_fused = impl != 'chunked' and is_full(*pair, valid)
    gradients = [
        logits.new_empty(0) if found is None else _as(logits, found) if like_fused else found
        for logits, found in zip(pair, solution[1:], strict=True)
    ]
    return parts.sum(), parts, solution.sums, gradients[0], gradients[1]


def _as(logits: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient as the fused kernels give it, and as the operator so announces it."""
    like = torch.empty_like(logits, device='meta')
    if (gradient.dtype, gradient.stride()) == (like.dtype, like.stride()):
        return gradient
    return torch.empty_like(logits).copy_(gradient)


@balanced_divergence.register_fake
def _fake(  # type: ignore[no-untyped-def]
    student_logits, teacher_logits, valid, target, class_weight, coefficients, temperatures,
    forward, reverse, positions, align_corners, ignore_index, granularity, impl, gradient,
    student_gradient, teacher_gradient,
) -> tuple[Tensor, ...]:  # fmt: skip
    def like(logits: Tensor, wanted: bool) -> Tensor:
        if not wanted or gradient != 'save':
            return logits.new_empty(0)
        if impl != 'chunked' and is_full(student_logits, teacher_logits, valid):
            return torch.empty_like(logits)
        return logits.new_empty(logits.shape, dtype=coefficients.dtype)

    return (
        coefficients.new_empty(()),
        coefficients.new_empty(3),
        coefficients.new_empty((student_logits.shape[0], 5 if granularity == 'none' else 9)),
        like(student_logits, student_gradient),
        like(teacher_logits, teacher_gradient),
    )


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, coefficients, temperatures = inputs[:7]
    ctx.settings = settings = inputs[7:]
    ctx.gradient, (student, teacher) = settings[-3], tensors[:2]
    ctx.dtypes = (student.dtype, teacher.dtype)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # zeros in the size of the logits
    if ctx.gradient == 'recompute':
        ctx.save_for_backward(*tensors, temperatures, coefficients)
    else:
        ctx.save_for_backward(*output[3:])


def _backward(ctx: Any, grad_loss: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    compiling = _registration.is_compiling()
    if torch.is_grad_enabled() and not compiling:
        raise RuntimeError(
            'balanced_divergence keeps no graph for a second derivative (create_graph=True); '
            "pass impl='reference' where one is needed"
        )
    if grad_loss is None:
        return (None,) * 17
    settings = ctx.settings
    wanted = settings[-2:]
    if ctx.gradient == 'recompute':
        *tensors, temperatures, coefficients = ctx.saved_tensors
        again = [temperatures, *settings[:-3], 'save', *wanted]
        gradients = balanced_divergence(*tensors, coefficients * grad_loss, *again)[3:]
    else:
        # With retain_graph=True the saved gradient is used again; a traced one is no memory yet.
        saved = ctx.saved_tensors  # read once, as activation checkpointing wants it
        real = not compiling and all(type(x) is Tensor for x in saved)
        owned = real and not _registration.graph_is_kept()
        gradients = [
            scaled(gradient, grad_loss, dtype, owned, settings[-4]) if want else gradient
            for gradient, dtype, want in zip(saved, ctx.dtypes, wanted, strict=True)
        ]
    pair = [g if want else None for g, want in zip(gradients, wanted, strict=True)]
    return (*pair, *[None] * 15)


def scaled(gradient: Tensor, factor: Tensor, dtype: torch.dtype, owned: bool, impl: str) -> Tensor:
    """Return gradient * factor in `dtype`, in the gradient's own memory if it is ours."""
    if not owned or gradient.dtype != dtype:
        return (gradient * factor).to(dtype)
    ours = impl != 'chunked' and gradient.is_cuda and gradient.is_contiguous()  # not float64
    if ours and may_scale(gradient, impl == 'fused'):
        importlib.import_module('balkd_seg.ops._fused').scale_(gradient, factor)
    else:
        gradient.mul_(factor)
    return gradient.detach()  # autograd would copy a tensor that something else refers to


balanced_divergence.register_autograd(_backward, setup_context=_setup_context)
