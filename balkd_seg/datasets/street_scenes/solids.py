"""Solids of the kind a vehicle is made of: a side view pulled across a width."""

import math
from dataclasses import dataclass

import numpy as np

from .camera import Frame
from .canvas import Canvas, Colour
from .street import Light


@dataclass(frozen=True)
class Solid:
    """A closed side view, pulled across `2 * half` metres.

    Attributes:
        frame: Where it stands; its length runs along the heading.
        outline: Corners (along, up) in metres, (M, 2), counter-clockwise with the front to the
            right.
        half: Half its width, metres.
    """

    frame: Frame
    outline: np.ndarray
    half: float

    def edge(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return both ends (along, up) of an edge."""
        return self.outline[index], self.outline[(index + 1) % len(self.outline)]

    def on_edge(
        self, index: int, across: tuple[float, float], along: tuple[float, float]
    ) -> np.ndarray:
        """Return the pixels of a rectangle on an edge's face, (4, 2).

        Args:
            index: The edge.
            across: Its range over the width, -1 (left) to 1 (right).
            along: Its range from the edge's first corner (0) to its second (1).
        """
        first, last = self.edge(index)
        ends = first + (last - first) * np.array(along)[:, None]
        local = [
            (ends[i, 0], across[j] * self.half, ends[i, 1])
            for i, j in ((0, 0), (0, 1), (1, 1), (1, 0))
        ]
        return self.frame.project(np.array(local))

    def on_side(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels of (..., 2) points (along, up) on the side that is seen."""
        points = np.asarray(points, float)
        across = np.full(points.shape[:-1], np.sign(self.frame.eye()[1]) * self.half)
        return self.frame.project(np.stack([points[..., 0], across, points[..., 1]], axis=-1))

    def side_seen(self) -> bool:
        """Return whether the camera sees the left or the right side at all."""
        return abs(self.frame.eye()[1]) > self.half

    def edges_seen(self) -> list[int]:
        """Return the edges whose faces the camera sees, farthest first."""
        along, _, up = self.frame.eye()
        seen = []
        for index in range(len(self.outline)):
            first, last = self.edge(index)
            normal = self._normal(index)
            if normal[0] * (along - first[0]) + normal[1] * (up - first[1]) > 0:
                middle = (first + last) / 2
                seen.append((-abs(middle[0] - along), index))
        return [index for _, index in sorted(seen)]

    def draw(
        self, canvas: Canvas, light: Light, paints: list[Colour], label: int, body: Colour
    ) -> None:
        """Draw every face that is seen.

        Args:
            canvas: Drawn on.
            light: Shades the faces.
            paints: Colour of each edge's face.
            label: Class of all of it.
            body: Colour of the sides.
        """
        for index in self.edges_seen():
            along, up = self._normal(index)
            paint = paints[index] * self._shade(light, along, 0.0, up)
            canvas.polygon(self.on_edge(index, (-1, 1), (0, 1)), paint, label)
        if self.side_seen():
            side = float(np.sign(self.frame.eye()[1]))
            paint = body * self._shade(light, 0.0, side, 0.0)
            canvas.polygon(self.on_side(self.outline), paint, label)

    def _normal(self, index: int) -> tuple[float, float]:
        (along_0, up_0), (along_1, up_1) = self.edge(index)
        along, up = along_1 - along_0, up_1 - up_0
        length = max(math.hypot(along, up), 1e-6)
        return up / length, -along / length

    def _shade(self, light: Light, along: float, across: float, up: float) -> float:
        sin, cos = math.sin(self.frame.angle), math.cos(self.frame.angle)
        normal = np.array([along * sin + across * cos, up, along * cos - across * sin])
        return light.shade(normal)
