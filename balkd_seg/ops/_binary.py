"""Binary networks with one sigmoid channel, as networks of two classes; torch only.

With z the logit of class 1, `sigmoid(z)` is the second entry of `softmax((0, z))`, at every
temperature. Bilinear resizing and that step commute, because it is linear in z.
"""

import torch
from torch import Tensor


def two_class_logits(logit: Tensor) -> Tensor:
    """Return (0, z) of one logit z a pixel: (N, 1, ...) to (N, 2, ...).

    Example:
        >>> two_class_logits(torch.tensor([[2.0]]))
        tensor([[0., 2.]])
    """
    return torch.cat((torch.zeros_like(logit), logit), 1)


def two_class_log_probabilities(probability: Tensor) -> Tensor:
    """Return `(log(1 - p), log p)`, whose softmax is (1 - p, p): (1, ...) to (2, ...).

    Where rounding made p 0 or 1, the nearest number between is taken, so that the logarithms stay
    finite: -87 for p and -17 for 1 - p in float32.

    Args:
        probability: Of class 1, in [0, 1]; any floating dtype, computed in float32 or float64.

    Raises:
        ValueError: If a value is no probability.

    Example:
        >>> two_class_log_probabilities(torch.tensor([0.75])).exp()
        tensor([0.2500, 0.7500])
    """
    if bool(((probability < 0) | (probability > 1)).any()):
        low, high = float(probability.amin()), float(probability.amax())
        raise ValueError(
            f'Expected one channel of `seg_logits` to hold probabilities of class 1, as mmseg '
            f'leaves them (the sigmoid of the logit), but got {low:.3g} to {high:.3g}. Give '
            'probabilities, or the logits of both classes.'
        )
    p = probability.to(torch.promote_types(probability.dtype, torch.float32))
    given, wide = torch.finfo(probability.dtype), torch.finfo(p.dtype)
    least = max(given.tiny * given.eps / 2, wide.tiny)  # half of the first step above 0
    last = given.eps / 4  # half of the last step below 1
    return torch.cat(((1 - p).clamp(min=last).log(), p.clamp(min=least).log()))
