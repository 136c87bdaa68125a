"""What every loss between two dense outputs remembers."""

import math
from typing import Any, TypeVar

from torch import nn

from balkd_seg.ops._checks import check_choice

Result = TypeVar('Result', bound=Any)


class DenseLoss(nn.Module):
    """Settings that all losses share; a loss adds its own and calls one operation.

    A loss whose `forward` takes `teacher_gradient` can be turned round by `BalancedLoss`.

    Args:
        ignore_index: Label of pixels that do not count.
        resize: 'label', 'student' or 'none': the size at which the networks are compared.
        align_corners: As in the decode head.
        loss_weight: Factor of the loss, in (0, inf).
        loss_name: Name of the term in the log; starts with 'loss_'.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        ignore_index: int,
        resize: str,
        align_corners: bool,
        loss_weight: float,
        loss_name: str,
    ) -> None:
        super().__init__()
        check_choice('resize', resize, ('label', 'none', 'student'))
        check_loss(loss_weight, loss_name)
        self.ignore_index = ignore_index
        self.resize = resize
        self.align_corners = align_corners
        self.loss_weight = loss_weight
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        """Name of the term in the log."""
        return self._loss_name

    def sizes(self) -> dict[str, Any]:
        """Return the arguments of an operation that say what is compared where."""
        names = ('ignore_index', 'resize', 'align_corners')
        return {name: getattr(self, name) for name in names}

    def weighed(self, result: Result) -> Result:
        """Return what an operation returned, with the weight of this iteration."""
        return result._replace(loss=self.loss_weight * result.loss)


def check_loss(loss_weight: float, loss_name: str) -> None:
    """Raise unless the loss trains and its name says so."""
    if not 0 < loss_weight < math.inf:
        raise ValueError(
            f'Expected `loss_weight` to be finite and larger than 0, but got {loss_weight}; '
            'remove the loss from `distill` to train without it'
        )
    if not loss_name.startswith('loss_'):
        raise ValueError(
            f"Expected `loss_name` to start with 'loss_', but got {loss_name!r}; mmengine trains "
            'only what has "loss" in its name'
        )
