"""Cars: hatchbacks, saloons, estates and vans."""

from dataclasses import dataclass

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas
from .solids import Solid
from .street import Light
from .vehicle_parts import (
    draw_head_lamps,
    draw_shadow,
    draw_tail_lamps,
    draw_wheels,
    paints,
    random_glass,
    random_paint,
)


@dataclass(frozen=True)
class _Body:
    """A side view in fractions of length and height; the front is to the right.

    Attributes:
        length: Metres.
        height: Metres.
        outline: Corners (along, up), counter-clockwise, and what the edge to the next one is.
        windows: Corners (along, up) of the side windows.
    """

    length: float
    height: float
    outline: tuple[tuple[float, float, str], ...]
    windows: tuple[tuple[float, float], ...]


_SILL = ((-0.5, 0.17, 'dark'), (0.5, 0.17, 'front'))
_BODIES = (
    _Body(  # hatchback
        3.9, 1.5,
        (*_SILL, (0.49, 0.5, 'body'), (0.2, 0.62, 'glass'), (0.02, 1.0, 'body'),
         (-0.4, 0.97, 'glass'), (-0.49, 0.58, 'rear')),
        ((0.15, 0.63), (0.0, 0.93), (-0.37, 0.9), (-0.43, 0.62)),
    ),
    _Body(  # saloon
        4.6, 1.45,
        (*_SILL, (0.49, 0.5, 'body'), (0.22, 0.62, 'glass'), (0.06, 1.0, 'body'),
         (-0.2, 0.98, 'glass'), (-0.36, 0.64, 'body'), (-0.5, 0.6, 'rear')),
        ((0.17, 0.63), (0.04, 0.93), (-0.19, 0.91), (-0.31, 0.64)),
    ),
    _Body(  # estate
        4.6, 1.55,
        (*_SILL, (0.49, 0.48, 'body'), (0.22, 0.6, 'glass'), (0.05, 0.98, 'body'),
         (-0.44, 1.0, 'glass'), (-0.5, 0.58, 'rear')),
        ((0.17, 0.61), (0.03, 0.92), (-0.41, 0.93), (-0.45, 0.61)),
    ),
    _Body(  # van
        5.2, 2.1,
        (*_SILL, (0.48, 0.45, 'body'), (0.36, 0.56, 'glass'), (0.22, 0.97, 'body'),
         (-0.49, 1.0, 'glass'), (-0.5, 0.5, 'rear')),
        ((0.31, 0.57), (0.19, 0.9), (0.05, 0.9), (0.05, 0.57)),
    ),
)  # fmt: skip


def draw_car(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a car of a random body."""
    car = _BODIES[int(rng.choice(len(_BODIES), p=[0.35, 0.25, 0.25, 0.15]))]
    size = np.array([car.length, car.height]) * rng.uniform(0.92, 1.12, 2)
    kinds = [kind for _, _, kind in car.outline]
    outline = np.array([(along, up) for along, up, _ in car.outline]) * size
    solid = Solid(frame, outline, rng.uniform(0.83, 0.95))
    body, glass = random_paint(rng), random_glass(rng, light)
    axle = 0.31 * float(size[0])
    draw_shadow(canvas, frame, size[0], solid.half)
    solid.draw(canvas, light, paints(kinds, body, glass), labels.CAR, body)
    draw_wheels(canvas, solid, [-axle, axle], rng.uniform(0.3, 0.36), labels.CAR)
    if solid.side_seen():
        canvas.polygon(solid.on_side(np.array(car.windows) * size), glass * 0.9)
        pillar = np.array([[-0.1, 0.6], [-0.1, 0.95], [-0.125, 0.95], [-0.125, 0.6]])
        canvas.polygon(solid.on_side(pillar * size), body * 0.8)
        crease = np.array([[[-0.45, 0.42], [0.45, 0.42]]])
        canvas.lines(solid.on_side(crease * size), 0.5, body * 0.6)
    draw_head_lamps(canvas, solid, light, kinds.index('front'), (0.5, 0.85))
    draw_tail_lamps(rng, canvas, solid, light, kinds.index('rear'), (0.15, 0.5))
