"""An upright plane beside the street: the front of a house, a wall, a fence."""

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Colour
from .street import Street

Metres = np.ndarray | float


@dataclass(frozen=True)
class Facade:
    """A plane that follows the street at `u` from `start` to `end`, `top` metres high."""

    street: Street
    u: float
    start: float
    end: float
    top: float

    @property
    def outline(self) -> np.ndarray:
        """Pixels of its four corners, (4, 2)."""
        return self.rectangles(self.start, self.end, 0.0, self.top)[0]

    def rectangles(self, near: Metres, far: Metres, low: Metres, high: Metres) -> np.ndarray:
        """Return the pixels of rectangles on it, (K, 4, 2).

        Args:
            near: Distances of their near sides, (K,) or one for all; cut off at the ends.
            far: Distances of their far sides.
            low: Heights of their lower sides.
            high: Heights of their upper sides.
        """
        near, far, low, high = np.broadcast_arrays(*np.atleast_1d(near, far, low, high))
        z = np.clip(np.stack([near, near, far, far], axis=-1), self.start, self.end)
        return self.street.points(self.u, np.stack([low, high, high, low], axis=-1), z)

    def courses(self, heights: np.ndarray) -> np.ndarray:
        """Return horizontal lines over its whole length, (K, 2, 2) pixels."""
        z = np.array([self.start, self.end])
        return self.street.points(self.u, heights[:, None], z)

    def seams(self, distances: np.ndarray) -> np.ndarray:
        """Return vertical lines over its whole height, (K, 2, 2) pixels."""
        return self.street.points(self.u, np.array([0, self.top]), distances[:, None])


def draw_cladding(rng: np.random.Generator, canvas: Canvas, facade: Facade, colour: Colour) -> None:
    """Draw courses, seams and stains on a plane, so that none is one flat colour."""
    start, end, top = facade.start, facade.end, facade.top
    contrast = rng.choice([-1, 1]) * rng.uniform(0.04, 0.16)
    if rng.random() < 0.6:
        heights = np.arange(0, min(top, 15), rng.uniform(0.3, 1.2))
        canvas.lines(facade.courses(heights), 0.5, colour * (1 + contrast))
    if rng.random() < 0.5:
        distances = np.arange(start, end, rng.uniform(1, 4))
        canvas.lines(facade.seams(distances), 0.5, colour * (1 - contrast))
    count = int(rng.integers(0, 5))
    near, low = rng.uniform(start, end, count), rng.uniform(0, top, count)
    far, high = near + rng.uniform(0.5, 4, count), low + rng.uniform(0.5, 4, count)
    stains = facade.rectangles(near, far, low, np.minimum(high, top))
    canvas.polygons(stains, colour * (1 + contrast))
