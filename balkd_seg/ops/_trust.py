"""Whether the fused kernels are right on this GPU, found out at the first use of every form.

A card, a driver or a Triton that the kernels never ran on is not trusted for its name: the first
call of a form (see `Form`) solves a small fixed problem with the kernels and, in float64, with the
chunked implementation. It takes milliseconds beside the compilation, which the call needs anyhow,
and one look at the result. From then on the form is right or it is not, until the process ends; no
later call waits for the device. Every process decides for itself and each of its devices.

The operator asks while it runs, never while it is traced: so a compiled graph gets the answer of
the machine that runs it. A CUDA graph that is being captured cannot wait for a result: whoever
captures lets the loss run once before, with its backward, as PyTorch asks of everything captured.
"""

import importlib
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from balkd_seg.ops._compute import compute
from balkd_seg.ops._form import Form
from balkd_seg.ops._types import Problem, Solution

# How far a value, or a gradient in its dtype, may be from float64, of the largest of its kind.
# Some ten times what the kernels have shown in fp32, and the rounding of the others to it.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 8e-3, torch.float16: 1e-3}
# Pixels that may count as equal or not: logits that are equal but for rounding.
_TIES = 1

# '' for what is right, or else what is wrong with it.
_found: dict[object, str] = {}
_warned: set[object] = set()
_lock = threading.Lock()


def is_trusted(
    student_logits: Tensor,
    teacher_logits: Tensor,
    problem: Problem,
    gradients: tuple[bool, bool],
    required: bool,
) -> bool:
    """Return whether the fused kernels of a form are right; warn, once, if they are not.

    Args:
        student_logits: As in `balkd_seg.ops._compute.compute`, like the others.
        teacher_logits: See above.
        problem: See above.
        gradients: See above.
        required: Whether there is no other way: raise instead.

    Raises:
        RuntimeError: If the kernels are not right and `required`, or a form is met for the first
            time in the capture of a CUDA graph.
    """
    device = student_logits.device
    if not must_be_earned(device):
        return True
    form = Form.of(student_logits, teacher_logits, problem, gradients)
    if form not in _found and is_capturing(device):
        raise RuntimeError(
            'Expected the fused kernels to have run before a CUDA graph is captured, but got the '
            f'first call of this form: {form}; run the loss once before, with its backward, or '
            "use impl='chunked'"
        )
    return _settled(form, device, lambda: find_fault(form, problem), required)


def may_scale(gradient: Tensor, required: bool) -> bool:
    """Return whether the kernel that scales a gradient in place is right; see `is_trusted`.

    A form that is met in a capture is scaled by PyTorch, with the same result.
    """
    device = gradient.device
    if not must_be_earned(device):
        return True
    form = ('scaling', device, gradient.dtype)
    if form not in _found and is_capturing(device):
        return False
    return _settled(form, device, lambda: _find_fault_of_scaling(gradient), required)


def must_be_earned(device: torch.device) -> bool:
    """Return whether kernels are doubted there: Triton's interpreter on a CPU is no card."""
    return device.type == 'cuda'


def is_capturing(device: torch.device) -> bool:
    """Return whether a CUDA graph is being captured on the device's current stream."""
    if device.type != 'cuda':
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def find_fault(form: Form, problem: Problem) -> str:
    """Run the small problem of a form; return '' or what is wrong, in one line.

    Args:
        form: Of the kernels.
        problem: One of that form.
    """
    with torch.no_grad(), torch.autocast(form.device.type, enabled=False):
        student, teacher, small = form.example(problem)
        try:
            actual = compute('fused', student, teacher, small, *form.gradients)
            actual.sums.sum().item()  # what goes wrong on the device is heard of at the next wait
        except torch.cuda.OutOfMemoryError:
            raise  # which says nothing about the kernels
        except Exception as error:
            return _in_one_line(error)
        weight = small.class_weight
        exact = small._replace(
            coefficients=small.coefficients.double(),
            class_weight=None if weight is None else weight.double(),
        )
        expected = compute('chunked', student.double(), teacher.double(), exact, *form.gradients)
        return _difference(actual, expected)


def _find_fault_of_scaling(like: Tensor) -> str:
    """Scale a small gradient; return as `find_fault`."""
    with torch.no_grad():
        before = torch.linspace(-1, 1, 5000, device=like.device).to(like.dtype)
        factor = torch.full((), 0.37, device=like.device)
        try:
            after = before.clone()
            importlib.import_module('balkd_seg.ops._fused').scale_(after, factor)
            after.sum().item()
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            return _in_one_line(error)
        gap = (after.double() - before.double() * factor.double()).abs().max().item()
        return '' if gap <= TOLERANCE[like.dtype] else f'values differ by {gap:.2g}'


def _difference(actual: Solution, expected: Solution) -> str:
    """Return '' or which parts of a solution differ, and by how much of the largest value."""
    wrong = []
    names = ('sums', 'gradient of the student', 'gradient of the teacher')
    for name, ours, truth in zip(names, actual, expected, strict=True):
        if ours is None or truth is None:
            continue
        allowed = torch.full_like(truth, TOLERANCE[ours.dtype])
        if name == 'sums':
            allowed *= truth.abs().amax(0)
            allowed[:, 3:5] += _TIES
        else:
            allowed *= truth.abs().max()
        error = (ours.double() - truth).abs()
        if not (error <= allowed).all():  # also NaN
            share = (error.max() / truth.abs().max()).item()
            wrong.append(f'{name} by {share:.2g} of the largest ({allowed.max().item():.2g})')
    return f'results differ: {", ".join(wrong)}' if wrong else ''


def _in_one_line(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}'[:500]


def _settled(form: object, device: torch.device, find: Callable[[], str], required: bool) -> bool:
    """Return whether a form is right, which is found out once."""
    if form not in _found:
        with _lock:
            if form not in _found:
                _found[form] = find()
    fault = _found[form]
    if not fault:
        return True
    text = f'fused kernels are wrong here ({fault}) on {describe(device)}; form: {form}'
    if required:
        raise RuntimeError(f"Expected kernels that are right with impl='fused', but {text}; use "
                           "impl='auto'")  # fmt: skip
    with _lock:
        is_first = form not in _warned
        _warned.add(form)
    if is_first:
        warnings.warn(
            f'The {text}. The chunked implementation takes its place for the rest of this process.',
            stacklevel=2,
        )
    return False


def describe(device: torch.device) -> str:
    """Return the card and the versions that kernels depend on."""
    try:
        triton = importlib.import_module('triton').__version__
    except Exception as error:
        triton = _in_one_line(error)
    versions = f'torch {torch.__version__}, Triton {triton}'
    if device.type != 'cuda':
        return f'{device} (interpreted), {versions}'
    capability = ''.join(map(str, torch.cuda.get_device_capability(device)))
    card = f'{torch.cuda.get_device_name(device)} (sm_{capability}, {device})'
    return f'{card}, {versions}, CUDA {torch.version.cuda}, driver {_driver()}'


def _driver() -> str:
    """Return the version of NVIDIA's driver, as far as it can be read without its libraries."""
    try:
        text = Path('/proc/driver/nvidia/version').read_text()
    except OSError:
        text = ''
    found = re.search(r'\d+\.\d+(\.\d+)?', text)
    return found[0] if found else 'unknown'
