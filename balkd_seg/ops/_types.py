"""What passes between the public operation and its implementations."""

from typing import NamedTuple

from torch import Tensor

# A logit of -inf becomes this: it still has probability 0, and a class that is -inf in both
# networks cancels exactly where inf - inf would be NaN.
FLOOR = -1e30
# Divergences beyond this come from a class that only one network has at -inf: truly infinite.
UNBOUNDED = 1e20


class Terms(NamedTuple):
    """Weights and temperatures of the forward and the reverse divergence."""

    forward_weight: float
    reverse_weight: float
    forward_temperature: float
    reverse_temperature: float


class Sums(NamedTuple):
    """Sums over the softmax units that count: valid pixels, or channel maps of valid images."""

    loss: Tensor
    forward: Tensor
    reverse: Tensor
    agreement: Tensor
    units: Tensor
