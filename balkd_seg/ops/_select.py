"""Which implementation computes a loss."""

import os

import torch
from torch import Tensor

from balkd_seg.ops._versions import why_no_triton

IMPLEMENTATIONS = ('auto', 'fused', 'chunked', 'reference')
MAX_CLASSES = 256
_MAX_PROGRAMS = 2**31 - 1
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def select_implementation(
    impl: str, student_logits: Tensor, teacher_logits: Tensor, valid: Tensor, positions: bool
) -> str:
    """Return 'fused', 'chunked', 'reference', or 'auto': fused as far as it is trusted.

    Args:
        impl: What the caller wants; 'auto' stays so on CUDA where the kernels cover the problem,
            for the operator to decide (see `_trust.py`), and is chunked elsewhere.
        student_logits: (N, C, h, w).
        teacher_logits: (N, C, h', w').
        valid: (N, H, W).
        positions: Whether the softmax goes over positions.

    Raises:
        ValueError: If the caller wants 'fused' where it cannot be.
    """
    if impl == 'auto':
        if not student_logits.is_cuda:
            return 'chunked'
        reason = why_not_fused(student_logits, teacher_logits, valid, positions)
        return 'chunked' if reason else 'auto'
    if impl == 'fused':
        reason = why_not_fused(student_logits, teacher_logits, valid, positions)
        if reason:
            raise ValueError(
                f"Expected a loss that the fused kernels cover with impl='fused', but {reason}; "
                "use impl='auto'"
            )
    return impl


def why_not_fused(
    student_logits: Tensor, teacher_logits: Tensor, valid: Tensor, positions: bool
) -> str | None:
    """Return why the fused kernels cannot compute this here, or None if they can."""
    reason = why_no_form(student_logits, teacher_logits, valid, positions)
    return reason or why_no_kernels(student_logits.device)


def why_no_form(
    student_logits: Tensor, teacher_logits: Tensor, valid: Tensor, positions: bool
) -> str | None:
    """Return why no fused kernel computes this on any device, or None if one does."""
    pair = (student_logits, teacher_logits)
    size = tuple(valid.shape[1:])
    if positions:
        return 'the softmax goes over positions'
    if any(z.dtype not in _DTYPES for z in pair):
        return f'the logits are {pair[0].dtype} and {pair[1].dtype}'
    if student_logits.shape[1] > MAX_CLASSES:
        return f'there are {student_logits.shape[1]} classes, more than {MAX_CLASSES}'
    if student_logits.numel() == 0 or valid.numel() == 0:
        return 'there is nothing to compute'
    if any(z.shape[2] > size[0] or z.shape[3] > size[1] for z in pair):
        return f'logits are reduced, not enlarged, to {size}'
    if _exceeds_int32(student_logits, teacher_logits, size):
        return f'an image of {size} with logits of {tuple(student_logits.shape[1:])} is too large'
    if _exceeds_grid(student_logits, teacher_logits, valid):
        return f'a batch of {len(valid)} images of {size} needs too many programs'
    return None


def _exceeds_int32(student: Tensor, teacher: Tensor, size: tuple[int, ...]) -> bool:
    """Return whether offsets in an image of low-resolution logits need more than int32."""
    if student.shape[2:] == teacher.shape[2:] == size:
        return False  # which that kernel takes care of
    furthest = max(
        sum((n - 1) * s for n, s in zip(z.shape[1:], z.stride()[1:], strict=True))
        for z in (student, teacher)
    )
    return furthest >= 2**31 or 2 * max(size) ** 2 >= 2**31


def _exceeds_grid(student: Tensor, teacher: Tensor, valid: Tensor) -> bool:
    """Return whether programs could be more than a grid's first dimension, the only one, holds.

    A program has at least 16 columns of labels, half of them in use, or 32 of a gradient.
    """
    num, height, width = valid.shape
    lines = [num * (height + 1) * (width // 8 + 2)]
    lines += [z.shape[:3].numel() * (z.shape[3] // 32 + 1) for z in (student, teacher)]
    return max(lines) > _MAX_PROGRAMS


@torch.compiler.assume_constant_result
def why_no_kernels(device: torch.device) -> str | None:
    reason = why_no_triton()
    if reason:
        return reason
    if device.type == 'cuda':
        if torch.version.hip is not None:
            return 'the kernels are for NVIDIA GPUs'
        if torch.cuda.get_device_capability(device) < (8, 0):
            return 'the GPU is older than compute capability 8.0'
        return None
    if interpreted():
        return None
    return f'the logits are on {device.type}, not on a CUDA device'


def interpreted() -> bool:
    """Return whether Triton interprets the kernels, which tests do, on tensors of any device."""
    return os.environ.get('TRITON_INTERPRET') == '1'
