"""The Triton kernel that collects what `upsampled` leaves for every logit.

No number is specialised, and no class count: it is compiled anew for `constexpr` alone.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=['C', 'h', 'w', 'chunks', 'padded'])
def gather(
    corner_ptr,  # as in `upsampled`
    grad_ptr,  # (N, C, h, w), contiguous
    C, h, w, chunks, padded,
    CHUNKED: tl.constexpr,  # there are several
    ALIGN_H: tl.constexpr,
    ALIGN_W: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Add up what the chunks of the four cells around a logit left for it, in a fixed order."""
    cell_rows = h if ALIGN_H else h + 1
    blocks = tl.cdiv(w, BLOCK)
    program = tl.program_id(0)
    line = program // blocks  # of (N, C, h)
    i, c = line % h, line // h % C
    n = (line // h // C).to(tl.int64)
    j = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for lower in tl.static_range(2):
        for right in tl.static_range(2):
            cell_y = i - lower if ALIGN_H else i + 1 - lower
            cell_x = j - right if ALIGN_W else j + 1 - right
            mask = (cell_y >= 0) & (cell_x >= 0) & (j < w)
            at = ((n * cell_rows + cell_y) * 4 + 2 * lower + right) * C + c
            at = corner_ptr + at * padded + cell_x * chunks
            if CHUNKED:
                for chunk in range(chunks):
                    total += tl.load(at + chunk, mask=mask, other=0.0)
            else:
                total += tl.load(at, mask=mask, other=0.0)
    tl.store(grad_ptr + line.to(tl.int64) * w + j, total, mask=j < w)
