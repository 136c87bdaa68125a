"""Collects what stands in a street and draws it from far to near."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .canvas import Canvas
from .street import Street

REACH = 7.0  # metres; no object but a tram reaches farther from its middle


class Stage:
    """Everything that is to be drawn, each with its distance.

    Args:
        rng: Randomness of the scene.
        canvas: Drawn on.
        street: Where everything stands.
    """

    def __init__(self, rng: np.random.Generator, canvas: Canvas, street: Street) -> None:
        self.rng, self.canvas, self.street = rng, canvas, street
        self._items: list[tuple[float, Callable[[], None]]] = []

    def put(self, distance: float, draw: Callable[..., None], *args: Any) -> None:
        """Remember to call `draw(rng, canvas, *args)` for something `distance` metres away."""
        self._items.append((distance, partial(draw, self.rng, self.canvas, *args)))

    def stand(
        self, draw: Callable[..., None], u: float, z: float, *args: Any, turn: float = 0.0
    ) -> None:
        """Remember to call `draw(rng, canvas, frame, *args)` for an object at (u, z), if seen."""
        frame = self.street.frame(u, z, turn)
        reach = REACH * frame.scale
        if -reach < frame.foot[0] < self.canvas.width + reach:
            self.put(z, draw, frame, *args)

    def play(self) -> None:
        """Draw everything, the farthest first."""
        for distance, draw in sorted(self._items, key=lambda item: -item[0]):
            self.canvas.set_depth(distance)
            draw()
