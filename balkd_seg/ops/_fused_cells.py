"""Where the cells of `_fused_upsample_kernels.py` lie, and how logits are read and summed there."""

import triton
import triton.language as tl

from balkd_seg.ops._fused_memory import load_logits

# Logits that are still to be interpolated: 0 * -inf would be NaN.
_FLOOR = tl.constexpr(-1e37)


@triton.jit
def first_output(cell, num_in, num_out, ALIGN: tl.constexpr):
    """Return the first output of a cell along one axis."""
    if ALIGN:
        numerator, denominator = cell * (num_out - 1), num_in - 1
    else:
        numerator, denominator = num_out * (2 * cell - 1) - num_in, 2 * num_in
    edge = (tl.maximum(numerator, 0) + denominator - 1) // denominator
    return tl.minimum(edge, num_out)


@triton.jit
def fraction(output, low, num_in, num_out, ALIGN: tl.constexpr):
    """Return how far an output lies from the logit `low` to the next, in [0, 1]."""
    if ALIGN:
        numerator, denominator = output * (num_in - 1), num_out - 1
    else:
        numerator, denominator = (2 * output + 1) * num_in - num_out, 2 * num_out
    part = (numerator - low * denominator).to(tl.float32) / denominator.to(tl.float32)
    # at the border both neighbours are the same logit, of which one has to get the gradient
    part = tl.where(low < 0, 1.0, part)
    return tl.where(low >= num_in - 1, 0.0, part)


@triton.jit
def lower_neighbour(output, num_in, num_out, ALIGN: tl.constexpr):
    """Return the index of the logit at or before an output; at least 0."""
    if ALIGN:
        return output * (num_in - 1) // (num_out - 1)
    return tl.maximum((2 * output + 1) * num_in - num_out, 0) // (2 * num_out)


@triton.jit
def whole(pointer, mask):
    """Load logits, 0 for NaN and +inf, and how many of each are these."""
    z = load_logits(pointer, mask, _FLOOR)
    fits = z < float('inf')
    return tl.where(fits, z, 0.0), tl.where(fits, 0.0, 1.0)


@triton.jit
def interpolate(pointer, top, bottom, left, right, part, mask, stride_h, stride_w):
    """Interpolate two rows of logits along them; return the upper one and the step to the lower.

    And how many NaN and +inf, 0 here, have a share in the upper and in the lower row of a column.
    """
    upper, lower = pointer + top * stride_h, pointer + bottom * stride_h
    left, right, shared = left * stride_w, right * stride_w, tl.where(part > 0, 1.0, 0.0)
    a, a_breaks = whole(upper + left, mask)
    b, b_breaks = whole(upper + right, mask)
    c, c_breaks = whole(lower + left, mask)
    d, d_breaks = whole(lower + right, mask)
    upper = a + part * (b - a)
    breaks_upper, breaks_lower = a_breaks + b_breaks * shared, c_breaks + d_breaks * shared
    return upper, c + part * (d - c) - upper, breaks_upper, breaks_lower


@triton.jit
def cell_sums(x, CELLS: tl.constexpr, CELL_WIDTH: tl.constexpr):
    """Sum (G, columns) over the columns of each cell."""
    return tl.sum(tl.reshape(x, [x.shape[0], CELLS, CELL_WIDTH]), 2)
