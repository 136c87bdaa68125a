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
def whole(pointer, mask, highest):
    """Load logits, 0 for NaN and +inf, and take these into the highest so far all the same."""
    z = load_logits(pointer, mask, _FLOOR)
    highest = tl.maximum(highest, z, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(z < float('inf'), z, 0.0), highest


@triton.jit
def interpolate(pointer, top, bottom, left, right, part, mask, stride_h, stride_w, highest):
    """Interpolate two rows of logits along them; return the upper one and the step to the lower.

    And the highest logits of the classes so far at the four corners, for `broken`.
    """
    upper, lower = pointer + top * stride_h, pointer + bottom * stride_h
    left, right = left * stride_w, right * stride_w
    a, highest_a = whole(upper + left, mask, highest[0])
    b, highest_b = whole(upper + right, mask, highest[1])
    c, highest_c = whole(lower + left, mask, highest[2])
    d, highest_d = whole(lower + right, mask, highest[3])
    upper = a + part * (b - a)
    return upper, c + part * (d - c) - upper, (highest_a, highest_b, highest_c, highest_d)


@triton.jit
def broken(highest, part):
    """Return 1 where NaN or +inf has a share in a column's upper row, plus 2 if in its lower."""
    fits = float('inf')
    alone = part <= 0  # the left one
    upper = (highest[0] < fits) & (alone | (highest[1] < fits))
    lower = (highest[2] < fits) & (alone | (highest[3] < fits))
    return tl.where(upper, 0, 1) + tl.where(lower, 0, 2)


@triton.jit
def cell_sums(x, CELLS: tl.constexpr, CELL_WIDTH: tl.constexpr):
    """Sum (G, columns) over the columns of each cell."""
    return tl.sum(tl.reshape(x, [x.shape[0], CELLS, CELL_WIDTH]), 2)
