"""Street furniture: lamps, posts, traffic lights, traffic signs, bins."""

from typing import NamedTuple

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, Colour, grey, random_colour
from .street import Light

_RECTANGLE = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
_SIGNALS = np.array([[50.0, 50, 255], [40, 190, 255], [120, 230, 60]])  # red, amber, green


class _Sign(NamedTuple):
    """A kind of traffic sign.

    Attributes:
        corners: Of its shape; 20 for a disc.
        turn: Angle of the first corner, radians.
        stretch: Of its width and height.
        paint: Colour, BGR.
        inner: Whether it has a white field inside a coloured rim.
        mark: Brightness of the symbol, or None for the grey back of a sign.
    """

    corners: int
    turn: float
    stretch: tuple[float, float]
    paint: tuple[float, float, float]
    inner: bool
    mark: float | None


_RED, _BLUE, _WHITE = (35.0, 30.0, 195.0), (165.0, 85.0, 25.0), (235.0, 235.0, 235.0)
_YELLOW, _GREEN, _BACK = (40.0, 200.0, 240.0), (70.0, 115.0, 25.0), (135.0, 135.0, 135.0)
_SIGNS = (
    _Sign(20, 0.0, (1, 1), _RED, True, 30),  # prohibition
    _Sign(20, 0.0, (1, 1), _BLUE, False, 235),  # order
    _Sign(3, -np.pi / 2, (1, 1), _RED, True, 30),  # warning
    _Sign(3, np.pi / 2, (1, 1), _RED, True, 235),  # give way
    _Sign(8, np.pi / 8, (1, 1), _RED, False, 235),  # stop
    _Sign(4, np.pi / 4, (1, 1), _BLUE, False, 235),  # parking, crossing
    _Sign(4, np.pi / 4, (1.5, 0.7), _YELLOW, False, 30),  # direction
    _Sign(4, np.pi / 4, (1.5, 0.7), _WHITE, False, 30),
    _Sign(4, np.pi / 4, (1.5, 0.7), _GREEN, False, 235),
    _Sign(20, 0.0, (1, 1), _BACK, False, None),
)


def _draw_pole(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, height: float, width: float
) -> Colour:
    """Draw a pole and return its colour."""
    colour = grey(rng.uniform(35, 190)) + rng.normal(0, 8, 3)
    x, y = frame.foot
    shaft = np.array([[[x, y], [x, y - height * frame.scale]]])
    canvas.lines(shaft, max(width * frame.scale, 0.7), colour, labels.POLE)
    return colour


def _reach(rng: np.random.Generator, frame: Frame, low: float, high: float) -> float:
    """Return how far an arm reaches over the road, pixels to the right."""
    return (-1 if frame.x > 0 else 1) * rng.uniform(low, high) * frame.scale


def draw_lamp(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a street lamp, or a bare pole."""
    height, scale = rng.uniform(5, 9), frame.scale
    colour = _draw_pole(rng, canvas, frame, height, rng.uniform(0.1, 0.22))
    if rng.random() < 0.3:
        return
    top = np.array(frame.foot) - [0, height * scale]
    reach = _reach(rng, frame, 0.8, 2.5)
    arm = np.array([[top, top + np.array([reach, -0.25 * scale])]])
    canvas.lines(arm, 0.09 * scale, colour, labels.POLE)
    head = top + np.array([1.05 * reach, -0.21 * scale])
    canvas.polygon(head + _RECTANGLE * [0.25 * reach, 0.09 * scale], colour * 1.1, labels.POLE)
    if light.lamps:
        canvas.glow(float(head[0]), float(head[1]), 1.3 * scale, np.array([140.0, 205, 255]))


def draw_bollard(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw a short post."""
    _draw_pole(rng, canvas, frame, rng.uniform(0.8, 1.1), rng.uniform(0.1, 0.18))


def draw_traffic_light(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light
) -> None:
    """Draw a traffic light on its pole, sometimes with a second one on an arm over the road."""
    height, scale = rng.uniform(2.6, 3.6), frame.scale
    arm = rng.random() < 0.35
    colour = _draw_pole(rng, canvas, frame, height + (2.4 if arm else 0.3), 0.14)
    x, y = frame.foot
    state = int(rng.integers(3))
    _draw_lantern(rng, canvas, np.array([x, y - height * scale]), scale, state, light)
    if arm:
        top = np.array([x, y - (height + 2.4) * scale])
        end = top + np.array([_reach(rng, frame, 2.5, 4.5), 0])
        canvas.lines(np.array([[top, end]]), 0.1 * scale, colour, labels.POLE)
        _draw_lantern(rng, canvas, end + np.array([0, 0.6 * scale]), scale, state, light)


def _draw_lantern(
    rng: np.random.Generator, canvas: Canvas, at: np.ndarray, scale: float, state: int, light: Light
) -> None:
    """Draw the box of a traffic light around a pixel, with one of its three lamps lit."""
    box = at + _RECTANGLE * [0.19 * scale, 0.55 * scale]
    canvas.polygon(box, grey(rng.uniform(15, 60)), labels.TRAFFIC_LIGHT)
    if rng.random() < 0.15:  # seen from behind
        return
    x, y = at.tolist()
    for lamp, ink in enumerate(_SIGNALS):
        lit = ink if lamp == state else ink * 0.2
        canvas.disc(x, y + (lamp - 1) * 0.34 * scale, 0.13 * scale, lit)
    shine = _SIGNALS[state] * (0.8 if light.lamps else 0.3)
    canvas.glow(x, y + (state - 1) * 0.34 * scale, 0.3 * scale, shine)


def draw_sign(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw one or two traffic signs on a pole."""
    height = rng.uniform(2.0, 3.2)
    _draw_pole(rng, canvas, frame, height + 0.4, 0.08)
    x, y = frame.foot
    for level in range(1 + int(rng.random() < 0.25)):
        centre = np.array([x, y - (height - 0.85 * level) * frame.scale])
        _draw_board(rng, canvas, centre, rng.uniform(0.32, 0.52) * frame.scale)


def _draw_board(rng: np.random.Generator, canvas: Canvas, at: np.ndarray, radius: float) -> None:
    """Draw one traffic sign of random kind around a pixel."""
    sign = _SIGNS[int(rng.integers(len(_SIGNS)))]
    angle = np.arange(sign.corners) * 2 * np.pi / sign.corners + sign.turn
    shape = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radius * sign.stretch
    paint = np.array(sign.paint) * rng.uniform(0.75, 1.1)
    canvas.polygon(at + shape, paint, labels.TRAFFIC_SIGN)
    if sign.inner:
        canvas.polygon(at + 0.72 * shape, grey(230))
    if sign.mark is not None:
        canvas.polygon(at + _RECTANGLE * rng.uniform(0.1, 0.35, 2) * radius, grey(sign.mark))


def draw_clutter(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw a bin or a box: things without a class, labelled to be ignored."""
    size = np.array([rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.8)]) * frame.scale
    colour = random_colour(rng, (0, 0.8), (0.15, 0.8))
    middle = np.array(frame.foot) - [0, size[1]]
    canvas.polygon(middle + _RECTANGLE * size, colour, labels.IGNORE)
    lid = middle - [0, 0.85 * size[1]] + _RECTANGLE * size * [1.05, 0.15]
    canvas.polygon(lid, colour * 0.6, labels.IGNORE)
