r"""The Triton kernels of `_fused_upsample.py`.

All outputs that bilinear upsampling takes from the same four logits form a *cell*; cells partition
the output, for any ratio, since their edges are exact integer divisions: (h + 1) x (w + 1) cells,
those at the border with one or two distinct logits, or h x w with aligned corners. A program takes
a strip of cells, or a chunk of a wide one; a thread takes one column of outputs and walks down its
rows, interpolating between the column's value at the top and at the bottom of the cell:

    z(y, x) = top(x) + l_y (bottom(x) - top(x)),    top(x) = z_00 + l_x (z_01 - z_00)

The adjoint needs only A = sum_y g and B = sum_y l_y g of the thread's column: the upper corners get
A - B, the lower ones B, split by l_x and summed over the columns. A cell or chunk so leaves four
numbers a class, and every logit gathers those that concern it in a fixed order: no atomics, the
same bits every time.

The teacher may have another resolution; its four logits are then looked up for every output.

Compiled anew: for what is `constexpr`, of which C unrolls the loops over a thread's classes and so
has to be; for dtypes; and for whether 16 divides an address. No number is specialised, since loads
that neighbours share are not vectorised anyhow: a new size asks for no compilation, unless its
cells are wider than the next power of two, or images are so large that a stride needs 64 bits.
"""

import triton
import triton.language as tl

from balkd_seg.ops._fused_cells import (
    broken,
    cell_sums,
    first_output,
    fraction,
    interpolate,
    lower_neighbour,
)
from balkd_seg.ops._fused_memory import EXCLUDED, load_labels, load_weights, store_sums
from balkd_seg.ops._fused_pixel import solve_pixels


@triton.jit(
    do_not_specialize=[
        'h', 'w', 'th', 'tw', 'H', 'W', 'chunks', 'student_n', 'student_c', 'student_h',
        'student_w', 'teacher_n', 'teacher_c', 'teacher_h', 'teacher_w', 'coefficient_n',
        'ignore_index',
    ]
)  # fmt: skip
def upsampled(
    student_ptr,  # (N, C, h, w)
    teacher_ptr,  # (N, C, th, tw)
    label_ptr,  # (N, H, W), contiguous: classes with TASK, or else `valid`
    weight_ptr,  # (C,) class weights
    coefficient_ptr,  # (N, 3), of one row if `coefficient_n` is 0
    corner_ptr,  # (N, cell rows, 4, C, padded): what cells leave for their corners
    sums_ptr,  # (N, cell rows, strips, 5 or, with ENTROPY, 9)
    h, w, th, tw, H, W,
    chunks,  # programs of a cell; 1, or else CELLS is
    student_n, student_c, student_h, student_w,  # strides
    teacher_n, teacher_c, teacher_h, teacher_w,
    coefficient_n,
    tau_f,
    tau_r,
    tau_h,
    delta,
    ignore_index,
    C: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    CELLS: tl.constexpr,  # a strip's
    CELL_WIDTH: tl.constexpr,  # power of two, at least the widest cell's or chunk's
    ALIGN_H: tl.constexpr,
    ALIGN_W: tl.constexpr,
    TEACHER_ALIGN_H: tl.constexpr,
    TEACHER_ALIGN_W: tl.constexpr,
    SAME_GRID: tl.constexpr,  # the networks' logits have one size
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
):  # fmt: skip
    """Solve the pixels of a strip of cells."""
    COLUMNS: tl.constexpr = CELLS * CELL_WIDTH
    NUM_SUMS: tl.constexpr = 9 if ENTROPY else 5
    cell_rows, cell_columns = h if ALIGN_H else h + 1, w if ALIGN_W else w + 1
    strips = tl.cdiv(cell_columns, CELLS) * chunks
    program = tl.program_id(0)  # of (N, cell rows, strips)
    strip, line = program % strips, program // strips
    cell_y, n = line % cell_rows, (line // cell_rows).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    cell_x = (strip // chunks) * CELLS + column // CELL_WIDTH
    x = first_output(cell_x, w, W, ALIGN_W) + (strip % chunks) * CELL_WIDTH + column % CELL_WIDTH
    inside = (x < first_output(cell_x + 1, w, W, ALIGN_W)) & (cell_x < cell_columns)
    j = cell_x if ALIGN_W else cell_x - 1
    i = cell_y if ALIGN_H else cell_y - 1
    part_x = fraction(x, j, w, W, ALIGN_W)[None, :]
    left = tl.minimum(tl.maximum(j, 0), w - 1)[None, :]
    right = tl.minimum(j + 1, w - 1)[None, :]
    top = tl.minimum(tl.maximum(i, 0), h - 1)
    bottom = tl.minimum(i + 1, h - 1)
    group = tl.arange(0, G)[:, None]
    student_ptr += n * student_n
    teacher_ptr += n * teacher_n
    s_top, s_step, t_top, t_step, A, B = (), (), (), (), (), ()
    zero = tl.zeros([G, COLUMNS], tl.float32)
    s_highest = (zero, zero, zero, zero)
    t_highest = s_highest
    for k in tl.static_range(K):
        c = group * K + k
        mask = (c < C) & (left >= 0)
        at = student_ptr + c * student_c
        z, step, s_highest = interpolate(
            at, top, bottom, left, right, part_x, mask, student_h, student_w, s_highest
        )
        s_top, s_step = s_top + (z,), s_step + (step,)
        if SAME_GRID:
            at = teacher_ptr + c * teacher_c
            z, step, t_highest = interpolate(
                at, top, bottom, left, right, part_x, mask, teacher_h, teacher_w, t_highest
            )
            t_top, t_step = t_top + (z,), t_step + (step,)
        if STUDENT_GRAD:
            A, B = A + (zero,), B + (zero,)
    breaks = broken(s_highest, part_x)  # in one number: registers are scarce
    if SAME_GRID:
        breaks += 4 * broken(t_highest, part_x)
    else:
        x_safe = tl.minimum(x, W - 1)
        t_left = lower_neighbour(x_safe, tw, W, TEACHER_ALIGN_W)
        t_part_x = fraction(x_safe, t_left, tw, W, TEACHER_ALIGN_W)
        t_part_x = tl.maximum(t_part_x, 0.0)[None, :]
        t_right = tl.minimum(t_left + 1, tw - 1)[None, :]
        t_left = t_left[None, :]
    coefficient_ptr += n * coefficient_n
    k_f, k_r = tl.load(coefficient_ptr), tl.load(coefficient_ptr + 1)
    k_c = tl.load(coefficient_ptr + 2)
    sums = ()
    for _k in tl.static_range(NUM_SUMS):
        sums = sums + (tl.zeros([COLUMNS], tl.float32),)
    y_end = first_output(cell_y + 1, h, H, ALIGN_H)
    for y in range(first_output(cell_y, h, H, ALIGN_H), y_end):
        label_at = label_ptr + (n * H + y) * W + x
        label, valid = load_labels(label_at, inside, ignore_index)
        part_y = fraction(y, i, h, H, ALIGN_H)
        rows = tl.where(part_y > 0, 3, 1)  # which have a share
        if not SAME_GRID:
            t_up = lower_neighbour(y, th, H, TEACHER_ALIGN_H)
            t_part_y = tl.maximum(fraction(y, t_up, th, H, TEACHER_ALIGN_H), 0.0)
            t_down = tl.minimum(t_up + 1, th - 1)
            t_highest = (zero, zero, zero, zero)
        s, t = (), ()
        for k in tl.static_range(K):
            z = tl.maximum(s_top[k] + part_y * s_step[k], EXCLUDED)
            if k == 0:  # one class is enough to make the pixel NaN
                z = tl.where(valid[None, :] & ((breaks & rows) > 0), float('nan'), z)
            s = s + (z,)
            if SAME_GRID:
                z = tl.maximum(t_top[k] + part_y * t_step[k], EXCLUDED)
                if k == 0:
                    z = tl.where(valid[None, :] & ((breaks & 4 * rows) > 0), float('nan'), z)
            else:
                c = group * K + k
                mask = (c < C) & (t_left >= 0)
                z, step, t_highest = interpolate(
                    teacher_ptr + c * teacher_c, t_up, t_down, t_left, t_right, t_part_x, mask,
                    teacher_h, teacher_w, t_highest,
                )  # fmt: skip
                z = tl.maximum(z + t_part_y * step, EXCLUDED)
                if k == K - 1:  # all are known
                    t_rows = tl.where(t_part_y > 0, 3, 1)
                    t_breaks = broken(t_highest, t_part_x) & t_rows
                    z = tl.where(valid[None, :] & (t_breaks > 0), float('nan'), z)
            t = t + (z,)
        class_weight = load_weights(weight_ptr, label, valid, C, CLASS_WEIGHT)
        values, g, _ = solve_pixels(
            s, t, label, valid, group, k_f, k_r, k_c, class_weight, tau_f, tau_r, tau_h, delta, C,
            K, FORWARD, REVERSE, TASK, SAME, HALF_F, HALF_R, UNIT_F, UNIT_R, ENTROPY, ENTROPY_F,
            ENTROPY_R, STUDENT_GRAD, False,
        )  # fmt: skip
        new_sums = ()
        for k in tl.static_range(NUM_SUMS):
            new_sums = new_sums + (sums[k] + values[k],)
        sums = new_sums
        if STUDENT_GRAD:
            new_a, new_b = (), ()
            for k in tl.static_range(K):
                new_a, new_b = new_a + (A[k] + g[k],), new_b + (B[k] + part_y * g[k],)
            A, B = new_a, new_b
    if STUDENT_GRAD:
        padded = strips * CELLS
        cell = strip * CELLS + tl.arange(0, CELLS)[None, :]
        corner_ptr += line.to(tl.int64) * 4 * C * padded
        for k in tl.static_range(K):
            c = group * K + k
            upper = tl.where(inside[None, :], A[k] - B[k], 0.0)
            lower = tl.where(inside[None, :], B[k], 0.0)
            at = corner_ptr + c * padded + cell
            mask = (c < C) & (cell >= 0)
            step = C * padded
            tl.store(at, cell_sums(upper * (1 - part_x), CELLS, CELL_WIDTH), mask=mask)
            tl.store(at + step, cell_sums(upper * part_x, CELLS, CELL_WIDTH), mask=mask)
            tl.store(at + 2 * step, cell_sums(lower * (1 - part_x), CELLS, CELL_WIDTH), mask=mask)
            tl.store(at + 3 * step, cell_sums(lower * part_x, CELLS, CELL_WIDTH), mask=mask)
    store_sums(sums_ptr, program.to(tl.int64), sums, NUM_SUMS)
