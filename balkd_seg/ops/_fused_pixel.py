r"""What the fused kernels do with the logits of a pixel once they are in registers.

Legend: G threads share a pixel, and each keeps K = ceil(C / G) classes as a tuple of (G, P) tiles
for P pixels: classes are padded to a multiple of G, not to a power of two. The formulas are those
of `_tile.py`, in powers of two: exp(z / tau) = exp2(z log2(e) / tau).
"""

import triton
import triton.language as tl

_LN2 = tl.constexpr(0.6931471805599453)
_LOG2E = tl.constexpr(1.4426950408889634)
_UNBOUNDED = tl.constexpr(1e20)


@triton.jit
def exponentials(
    a, b, scale_f, scale_r, SAME: tl.constexpr, HALF_F: tl.constexpr, HALF_R: tl.constexpr
):  # fmt: skip
    """Exponentials of both networks at tau_f and tau_r; a ratio of 2 is a square."""
    if HALF_F:  # tau_r = 2 tau_f
        student_r, teacher_r = tl.exp2(a * scale_r), tl.exp2(b * scale_r)
        student_f, teacher_f = student_r * student_r, teacher_r * teacher_r
    else:
        student_f, teacher_f = tl.exp2(a * scale_f), tl.exp2(b * scale_f)
        if SAME:
            student_r, teacher_r = student_f, teacher_f
        elif HALF_R:
            student_r, teacher_r = student_f * student_f, teacher_f * teacher_f
        else:
            student_r, teacher_r = tl.exp2(a * scale_r), tl.exp2(b * scale_r)
    return student_f, teacher_f, student_r, teacher_r


@triton.jit
def solve_pixels(
    s,  # tuples of K tiles (G, P): the student's logits,
    t,  # the teacher's
    label,  # (P,) int32
    valid,  # (P,) whether it counts
    group,  # (G, 1)
    k_f,  # 0-dim coefficients
    k_r,
    k_c,
    class_weight,  # (P,): of the label's class
    tau_f,
    tau_r,
    tau_h,  # of the entropies
    delta,
    C: tl.constexpr,
    K: tl.constexpr,
    FORWARD: tl.constexpr,  # whether the term takes part in loss and gradient
    REVERSE: tl.constexpr,
    TASK: tl.constexpr,
    SAME: tl.constexpr,  # one temperature for both
    HALF_F: tl.constexpr,  # tau_r = 2 tau_f
    HALF_R: tl.constexpr,  # tau_f = 2 tau_r
    UNIT_F: tl.constexpr,  # tau_f = 1: the cross-entropy shares its exponentials
    UNIT_R: tl.constexpr,
    ENTROPY: tl.constexpr,  # whether entropies weigh the divergences
    ENTROPY_F: tl.constexpr,  # tau_h = tau_f: they share their exponentials
    ENTROPY_R: tl.constexpr,
    STUDENT_GRAD: tl.constexpr,
    TEACHER_GRAD: tl.constexpr,
):
    """Return a tuple of values (P,), the columns of a `Solution`, and two tuples of gradients.

    The values are 0 where a pixel does not count.
    """
    highest_s, highest_t = s[0], t[0]
    for k in tl.static_range(1, K):
        highest_s, highest_t = tl.maximum(highest_s, s[k]), tl.maximum(highest_t, t[k])
    highest_s, highest_t = tl.max(highest_s, 0)[None, :], tl.max(highest_t, 0)[None, :]
    scale_f, scale_r = _LOG2E / tau_f, _LOG2E / tau_r
    zero = tl.zeros_like(s[0])
    sum_sf, sum_tf, sum_sr, sum_tr, sum_1, pull, push, at_label = (
        zero, zero, zero, zero, zero, zero, zero, zero
    )  # fmt: skip
    sum_sh, sum_th, heat_s, heat_t = zero, zero, zero, zero
    both, gap_most, gap_least = zero != 0, zero, zero
    e_f, p_f, e_r, p_r, e_1, gap = (), (), (), (), (), ()
    for k in tl.static_range(K):
        a, b = s[k] - highest_s, t[k] - highest_t
        d = b - a
        both = both | (a == -b)  # neither is positive
        gap_most, gap_least = tl.maximum(gap_most, d), tl.minimum(gap_least, d)
        sf, tf, sr, tr = exponentials(a, b, scale_f, scale_r, SAME, HALF_F, HALF_R)
        sum_sf += sf
        sum_tf += tf
        pull += tf * d
        push += sr * d
        if not SAME:
            sum_sr += sr
            sum_tr += tr
        if ENTROPY:
            if ENTROPY_F:
                sh, th = sf, tf
            elif ENTROPY_R:
                sh, th = sr, tr
            else:
                sh, th = tl.exp2(a * (_LOG2E / tau_h)), tl.exp2(b * (_LOG2E / tau_h))
                sum_sh += sh
                sum_th += th
            heat_s += sh * a
            heat_t += th * b
        if TASK:
            at_label = tl.where(label[None, :] == group * K + k, a, at_label)
            if not (UNIT_F or UNIT_R):
                e = tl.exp2(a * _LOG2E)
                sum_1 += e
                if STUDENT_GRAD:
                    e_1 = e_1 + (e,)
        if STUDENT_GRAD or TEACHER_GRAD:
            e_f, p_f, gap = e_f + (sf,), p_f + (tf,), gap + (d,)
            if not SAME:
                e_r = e_r + (sr,)
                if TEACHER_GRAD:
                    p_r = p_r + (tr,)
    if SAME:
        sum_sr, sum_tr = sum_sf, sum_tf
    sum_sf, sum_tf, pull = tl.sum(sum_sf, 0), tl.sum(sum_tf, 0), tl.sum(pull, 0)
    sum_sr, sum_tr, push = tl.sum(sum_sr, 0), tl.sum(sum_tr, 0), tl.sum(push, 0)
    agreement = (valid & (tl.max(both.to(tl.int32), 0) > 0)).to(tl.float32)
    endless_f = tl.max(gap_most, 0) > _UNBOUNDED
    endless_r = tl.min(gap_least, 0) < -_UNBOUNDED
    mean_f, mean_r = pull / sum_tf, push / sum_sr
    forward = tau_f * (mean_f - tau_f * _LN2 * (tl.log2(sum_tf) - tl.log2(sum_sf)))
    reverse = tau_r * (tau_r * _LN2 * (tl.log2(sum_tr) - tl.log2(sum_sr)) - mean_r)
    forward = tl.where(valid, tl.where(endless_f, float('inf'), forward), 0.0)
    reverse = tl.where(valid, tl.where(endless_r, float('inf'), reverse), 0.0)
    sends = valid
    if FORWARD:
        sends = sends & (endless_f == 0)
    if REVERSE:
        sends = sends & (endless_r == 0)
    k_f, k_r = tl.where(sends, k_f, 0.0), tl.where(sends, k_r, 0.0)
    weighted = ()
    if ENTROPY:
        if ENTROPY_F:
            sum_sh, sum_th = sum_sf, sum_tf
        elif ENTROPY_R:
            sum_sh, sum_th = sum_sr, sum_tr
        else:
            sum_sh, sum_th = tl.sum(sum_sh, 0), tl.sum(sum_th, 0)
        of_s = tl.log2(sum_sh) * _LN2 - tl.sum(heat_s, 0) / (tau_h * sum_sh)
        of_t = tl.log2(sum_th) * _LN2 - tl.sum(heat_t, 0) / (tau_h * sum_th)
        factor_f, factor_r = tl.where(of_t > of_s, delta, 1.0), tl.where(of_s > of_t, delta, 1.0)
        k_f, k_r = k_f * factor_f, k_r * factor_r
        of_s, of_t = tl.where(valid, of_s, 0.0), tl.where(valid, of_t, 0.0)
        weighted = (of_s, of_t, factor_f * forward, factor_r * reverse)
    entropy, correct = tl.zeros_like(forward), tl.zeros_like(forward)
    u_e, u_1, u_label = tl.zeros_like(forward), tl.zeros_like(forward), tl.zeros_like(forward)
    if TASK:
        at_label = tl.sum(at_label, 0)
        if UNIT_F:
            sum_1 = sum_sf
        elif UNIT_R:
            sum_1 = sum_sr
        else:
            sum_1 = tl.sum(sum_1, 0)
        entropy = tl.log2(sum_1) * _LN2 - at_label
        # a class of weight 0 does not count, not even where it is excluded
        endless = (entropy > _UNBOUNDED) & (class_weight > 0)
        entropy = tl.where(endless, float('inf'), entropy * class_weight)
        # a label that is no class shows as NaN, sends no gradient and is never right
        known = (label >= 0) & (label < C)
        entropy = tl.where(known, entropy, float('nan'))
        entropy = tl.where(valid, entropy, 0.0)
        counts = valid & known
        correct = (counts & (at_label == 0)).to(tl.float32)
        u_label = tl.where(counts & (entropy != float('inf')), k_c * class_weight, 0.0)
        u_1 = u_label / sum_1
        u_label = u_label[None, :]
    # coefficients of the exponentials, and of sr * (gap - mean)
    u_sf, u_tf = k_f * tau_f / sum_sf, k_f * tau_f / sum_tf
    if UNIT_F:
        u_sf += u_1
    elif UNIT_R:
        u_e = u_1
    u_sf, u_tf, u_e, u_1 = u_sf[None, :], u_tf[None, :], u_e[None, :], u_1[None, :]
    u_sr, mean_r = (k_r / sum_sr)[None, :], mean_r[None, :]
    student_grad, teacher_grad = (), ()
    if STUDENT_GRAD:
        for k in tl.static_range(K):
            if SAME:
                g = e_f[k] * (u_sf + u_e - u_sr * (gap[k] - mean_r)) - u_tf * p_f[k]
            else:
                g = e_r[k] * (u_e - u_sr * (gap[k] - mean_r)) + u_sf * e_f[k] - u_tf * p_f[k]
            if TASK:
                if not (UNIT_F or UNIT_R):
                    g += u_1 * e_1[k]
                g -= tl.where(label[None, :] == group * K + k, u_label, 0.0)
            student_grad = student_grad + (g,)
    if TEACHER_GRAD:
        v_f, mean_f = (k_f / sum_tf)[None, :], mean_f[None, :]
        v_tr, v_sr = (k_r * tau_r / sum_tr)[None, :], (k_r * tau_r / sum_sr)[None, :]
        for k in tl.static_range(K):
            if SAME:
                g = p_f[k] * (v_f * (gap[k] - mean_f) + v_tr) - v_sr * e_f[k]
            else:
                g = p_f[k] * (v_f * (gap[k] - mean_f)) + v_tr * p_r[k] - v_sr * e_r[k]
            teacher_grad = teacher_grad + (g,)
    return (forward, reverse, entropy, agreement, correct) + weighted, student_grad, teacher_grad
