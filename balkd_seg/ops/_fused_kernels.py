"""The Triton kernels of `_fused.py`.

Compiled anew: for what is `constexpr`, of which C unrolls the loops over a thread's classes and so
has to be; for dtypes; and for whether 16 divides `num_pixels`, a stride or an address, and whether
a stride is 1, since only then are loads vectorised. Other numbers, images, rows and sizes among
them, are not specialised.
"""

import triton
import triton.language as tl

from balkd_seg.ops._fused_memory import EXCLUDED, load_labels, load_logits, load_weights, store_sums
from balkd_seg.ops._fused_pixel import solve_pixels


@triton.jit(do_not_specialize=['num_rows', 'coefficient_n', 'ignore_index'])
def full_resolution(
    student_ptr,  # (N, C, rows, P)
    teacher_ptr,
    label_ptr,  # (N, rows, P), contiguous: classes with TASK, or else `valid`
    weight_ptr,  # (C,) class weights
    coefficient_ptr,  # (N, 3), of one row if `coefficient_n` is 0
    student_grad_ptr,  # (N, C, rows, P)
    teacher_grad_ptr,
    sums_ptr,  # (N, rows, programs, 5 or, with ENTROPY, 9)
    num_rows,  # 1 where those of an image lie behind one another
    num_pixels,  # P
    student_n, student_c, student_r, student_p,  # strides
    teacher_n, teacher_c, teacher_r, teacher_p,
    student_grad_n, student_grad_c, student_grad_r, student_grad_p,
    teacher_grad_n, teacher_grad_c, teacher_grad_r, teacher_grad_p,
    coefficient_n,
    tau_f,
    tau_r,
    tau_h,
    delta,
    ignore_index,
    C: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,  # offsets in an image exceed int32
    CLASS_WEIGHT: tl.constexpr,
    FORWARD: tl.constexpr,
    REVERSE: tl.constexpr,
    TASK: tl.constexpr,
    SAME: tl.constexpr,
    HALF_F: tl.constexpr,
    HALF_R: tl.constexpr,
    UNIT_F: tl.constexpr,
    UNIT_R: tl.constexpr,
    ENTROPY: tl.constexpr,
    ENTROPY_F: tl.constexpr,
    ENTROPY_R: tl.constexpr,
    STUDENT_GRAD: tl.constexpr,
    TEACHER_GRAD: tl.constexpr,
):  # fmt: skip
    """Solve BLOCK pixels: of program // blocks, a row among those of all images."""
    program = tl.program_id(0)
    blocks = tl.cdiv(num_pixels, BLOCK)  # of a row
    row = program // blocks
    n = (row // num_rows).to(tl.int64)
    row = (row % num_rows).to(tl.int64)
    pixel = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < num_pixels
    group = tl.arange(0, G)[:, None]
    here = pixel[None, :]
    first = group * K
    if WIDE:
        here, first = here.to(tl.int64), first.to(tl.int64)
    label_ptr += (n * num_rows + row) * num_pixels
    label, valid = load_labels(label_ptr + pixel, inside, ignore_index)
    student_ptr += n * student_n + row * student_r
    teacher_ptr += n * teacher_n + row * teacher_r
    s, t = (), ()
    for k in tl.static_range(K):
        mask = inside[None, :] & (group * K + k < C)
        c = first + k
        s = s + (load_logits(student_ptr + c * student_c + here * student_p, mask, EXCLUDED),)
        t = t + (load_logits(teacher_ptr + c * teacher_c + here * teacher_p, mask, EXCLUDED),)
    coefficient_ptr += n * coefficient_n
    class_weight = load_weights(weight_ptr, label, valid, C, CLASS_WEIGHT)
    values, student_grad, teacher_grad = solve_pixels(
        s, t, label, valid, group, tl.load(coefficient_ptr), tl.load(coefficient_ptr + 1),
        tl.load(coefficient_ptr + 2), class_weight, tau_f, tau_r, tau_h, delta, C, K, FORWARD,
        REVERSE, TASK, SAME, HALF_F, HALF_R, UNIT_F, UNIT_R, ENTROPY, ENTROPY_F, ENTROPY_R,
        STUDENT_GRAD, TEACHER_GRAD,
    )  # fmt: skip
    student_grad_ptr += n * student_grad_n + row * student_grad_r
    teacher_grad_ptr += n * teacher_grad_n + row * teacher_grad_r
    for k in tl.static_range(K):
        mask = inside[None, :] & (group * K + k < C)
        c = first + k
        # what an ignored pixel holds must not matter, not even NaN
        if STUDENT_GRAD:
            at = student_grad_ptr + c * student_grad_c + here * student_grad_p
            tl.store(at, tl.where(valid[None, :], student_grad[k], 0.0), mask=mask)
        if TEACHER_GRAD:
            at = teacher_grad_ptr + c * teacher_grad_c + here * teacher_grad_p
            tl.store(at, tl.where(valid[None, :], teacher_grad[k], 0.0), mask=mask)
    store_sums(sums_ptr, program.to(tl.int64), values, 9 if ENTROPY else 5)


@triton.jit
def scale(tensor_ptr, factor_ptr, numel, BLOCK: tl.constexpr):
    """Multiply in place; a factor of 1 costs no traffic, and no one waits to learn it."""
    factor = tl.load(factor_ptr).to(tl.float32)
    if factor != 1.0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(tensor_ptr + at, mask=at < numel)
        tl.store(tensor_ptr + at, x.to(tl.float32) * factor, mask=at < numel)
