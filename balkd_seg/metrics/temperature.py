"""The temperature that calibrates a network best, from sums that add up over images; torch only.

C classes, H, W image size, K inverse temperatures, n pixels of a chunk.

`NLL(β) = mean over valid pixels of logsumexp(β·z) - β·z_label`, with logits z and β = 1 / T, is
convex in β. Its slope and curvature are sums over pixels, with p = softmax(β·z):
`Σ E_p[z] - z_label` and `Σ Var_p[z]`. One pass over the images adds both up at K temperatures. The
slope rises through zero once; `fit_temperature` finds where.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from balkd_seg.metrics.calibration import check_inputs

# β from 1/8 to 8, four steps to a doubling
INVERSE_TEMPERATURES = tuple(2.0 ** (step / 4) for step in range(-12, 13))
# what rules a class out (-inf) has no finite slope; at this distance p is 0 at every β
LOWEST = -1e4


@dataclass(frozen=True)
class NLLSlopes:
    """Slope and curvature of the NLL at `INVERSE_TEMPERATURES`, float64, (2, K)."""

    sums: Tensor

    def __add__(self, other: 'NLLSlopes') -> 'NLLSlopes':
        return NLLSlopes(self.sums + other.sums)


def nll_slopes(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> NLLSlopes:
    """Return the sums of one image, from one pass over its logits in chunks.

    Args:
        logits: (C, H, W), any floating dtype; computed in float32, float64 stays float64.
        target: Labels from 0 to C - 1, or `ignore_index`, (H, W).
        ignore_index: Label of pixels that do not count.

    Returns:
        The sums, on the device of the logits.

    Raises:
        ValueError: If shapes do not fit, a label is no class, or a logit is NaN or +inf.

    Examples:
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
        >>> slope, curvature = nll_slopes(logits, torch.tensor([[0, 255]])).sums
        >>> round(float(slope[12]), 4), round(float(curvature[12]), 4)  # at β = 1
        (-0.2384, 0.42)
    """
    check_inputs(logits, target, target, ignore_index)
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    size = 2**14 if logits.device.type == 'cpu' else 2**20
    pixels, labels = logits.detach().flatten(1), target.flatten().long()
    sums = torch.zeros(2, len(INVERSE_TEMPERATURES), dtype=torch.float64, device=logits.device)
    for start in range(0, len(labels), size):
        label = labels[start : start + size]
        valid = label != ignore_index
        z = pixels[:, start : start + size].to(wide)
        z = (z - z.amax(0)).clamp_(min=LOWEST)
        if not z.isfinite().all():
            raise ValueError('Expected finite logits, but got NaN or +inf. Check the checkpoint.')
        of_label = z.gather(0, label.where(valid, 0)[None])[0]
        for column, inverse in enumerate(INVERSE_TEMPERATURES):
            p = (inverse * z).exp_()
            p = p.mul_(valid / p.sum(0))
            first = (p * z).sum(0)
            second = p.mul_(z).mul_(z).sum(0)
            sums[0, column] += (first - of_label * valid).sum(dtype=torch.float64)
            sums[1, column] += (second - first * first).sum(dtype=torch.float64)
    return NLLSlopes(sums)


def fit_temperature(slopes: NLLSlopes) -> float:
    """Return the temperature of least NLL, from 1/8 to 8.

    Between the two measured β where the slope changes sign, it is taken for the cubic in log β
    with the measured slopes and curvatures at both, whose zero is found by bisection (tests: within
    0.01 % of a search over all logits). Where it does not change sign in the range, the end is
    returned that is nearer to the best temperature.

    Args:
        slopes: Over any number of images.

    Raises:
        ValueError: If there was no labelled pixel, or only such with equal logits.
    """
    slope, curvature = slopes.sums.cpu()
    if not slopes.sums.any():
        raise ValueError(
            'Expected labelled pixels to fit a temperature on, but there was none, or the logits '
            'of every pixel are equal. Fit on labelled images, with a trained network.'
        )
    positive = (slope > 0).nonzero()
    if len(positive) == 0 or positive[0] == 0:
        return 1 / INVERSE_TEMPERATURES[0 if len(positive) else -1]
    right = int(positive[0])
    ends = slice(right - 1, right + 1)
    betas = torch.tensor(INVERSE_TEMPERATURES, dtype=torch.float64)[ends]
    step = float((betas[1] / betas[0]).log())
    (y0, y1), (d0, d1) = slope[ends].tolist(), (curvature[ends] * betas * step).tolist()
    low, high = 0.0, 1.0
    for _ in range(60):
        t = (low + high) / 2
        value = (
            (1 + 2 * t) * (1 - t) ** 2 * y0
            + t * (1 - t) ** 2 * d0
            + t**2 * (3 - 2 * t) * y1
            + t**2 * (t - 1) * d1
        )
        low, high = (t, high) if value <= 0 else (low, t)
    return float(1 / (betas[0] * torch.tensor(low * step, dtype=torch.float64).exp()))
