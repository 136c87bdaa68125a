"""A flat figure that faces the camera: people and two-wheelers are made of it."""

import numpy as np

from .camera import Frame
from .canvas import Canvas, Colour, grey


class Figure:
    """Draws limbs, shapes and wheels given in metres around a foot point.

    Args:
        canvas: Drawn on.
        frame: Where it stands.
        squeeze: Foreshortening of its length, -1 to 1: 1 from the side, near 0 from behind.
    """

    def __init__(self, canvas: Canvas, frame: Frame, squeeze: float = 1.0) -> None:
        self.canvas, self.scale, self.squeeze = canvas, frame.scale, squeeze
        self.foot = np.array(frame.foot)

    def at(self, points: list | np.ndarray) -> np.ndarray:
        """Map (N, 2) metres (x, up) to pixels."""
        return np.asarray(points, float) * [self.squeeze * self.scale, -self.scale] + self.foot

    def limb(self, points: list | np.ndarray, width: float, colour: Colour, label: int) -> None:
        """Draw a bent stroke, `width` metres thick."""
        self.canvas.lines(self.at(points)[None], width * self.scale, colour, label)

    def shape(self, points: list | np.ndarray, colour: Colour, label: int) -> None:
        """Fill a polygon."""
        self.canvas.polygon(self.at(points), colour, label)

    def ball(
        self, at: list[float] | np.ndarray, radius: float, colour: Colour, label: int | None
    ) -> None:
        """Fill a circle."""
        x, y = self.at(at).tolist()
        self.canvas.disc(x, y, radius * self.scale, colour, label)

    def wheel(self, x: float, radius: float, width: float, label: int) -> None:
        """Draw a wheel: its whole disc is labelled, only its rim is painted."""
        angle = np.linspace(0, 2 * np.pi, 17)
        least = 0.5 * width / max(abs(self.squeeze) * radius, 1e-3)  # a tyre seen from behind
        along = radius * np.cos(angle) * max(1.0, least)
        rim = np.stack([x + along, radius + radius * np.sin(angle)], axis=-1)
        self.canvas.stencil(self.at(rim), label)
        self.limb(rim, width, grey(25), label)
