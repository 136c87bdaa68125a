"""Settings that all distillation losses share, refused when a loss is built."""

import math


def check_loss(loss_weight: float, loss_name: str) -> None:
    """Raise unless the loss trains and its name says so."""
    if not (math.isfinite(loss_weight) and loss_weight > 0):
        raise ValueError(
            f'Expected `loss_weight` to be finite and larger than 0, but got {loss_weight}; '
            'remove the loss from `distill` to train without it'
        )
    if not loss_name.startswith('loss_'):
        raise ValueError(
            f"Expected `loss_name` to start with 'loss_', but got {loss_name!r}; mmengine trains "
            'only what has "loss" in its name'
        )
