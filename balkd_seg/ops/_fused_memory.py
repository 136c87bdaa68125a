"""What the fused kernels read and write."""

import triton
import triton.language as tl

EXCLUDED = tl.constexpr(-1e25)


@triton.jit
def load_logits(pointer, mask, lowest: tl.constexpr):
    """Load logits as fp32, `lowest` at least and outside of the mask; NaN stays NaN."""
    z = tl.load(pointer, mask=mask, other=float('-inf')).to(tl.float32)
    return tl.maximum(z, lowest, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def load_labels(pointer, mask, ignore_index):
    """Return int32 labels, -1 for those beyond int32, and which count."""
    stored = tl.load(pointer, mask=mask, other=0)
    label = stored.to(tl.int32)
    return tl.where(label == stored, label, -1), mask & (stored != ignore_index)


@triton.jit
def load_weights(pointer, label, valid, C: tl.constexpr, CLASS_WEIGHT: tl.constexpr):
    """Return the class weights of (P,) labels, 1 without class weights."""
    if CLASS_WEIGHT:
        known = valid & (label >= 0) & (label < C)
        weight = tl.load(pointer + label, mask=known, other=0.0)
    else:
        weight = tl.full(label.shape, 1.0, tl.float32)
    return weight


@triton.jit
def store_sums(pointer, program, values, COLUMNS: tl.constexpr):
    """Store the sums of a program over its pixels."""
    for k in tl.static_range(COLUMNS):
        tl.store(pointer + program * COLUMNS + k, tl.sum(values[k]))
