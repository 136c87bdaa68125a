"""What passes between the public operation and its implementations."""

from typing import NamedTuple

from torch import Tensor

# -inf in logits that are still to be resized: 0 * -inf would be NaN.
FLOOR = -1e30
# What the softmax sees of it, also where it is only one of the pixels interpolated between: the
# probability is 0, and a class that is excluded by both networks cancels exactly.
EXCLUDED = -1e25
# A gap between the networks' logits beyond this: one of them alone excludes the class.
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
