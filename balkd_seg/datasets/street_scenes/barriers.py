"""Walls, fences, guard rails and hedges."""

from typing import NamedTuple

import numpy as np

from . import labels
from .canvas import Canvas, grey, jitter, random_colour
from .facades import Facade, draw_cladding
from .plants import draw_foliage
from .street import Street


class _Fence(NamedTuple):
    """How a fence is made, in metres.

    Attributes:
        pitch: From one upright to the next.
        upright: Length of an upright along the fence.
        rails: Heights of the horizontals, as shares of the fence's height.
        rail: Height of a horizontal.
    """

    pitch: float
    upright: float
    rails: tuple[float, ...]
    rail: float


_FENCES = (
    _Fence(0.25, 0.05, (0.1, 0.85), 0.05),  # pickets
    _Fence(0.60, 0.03, (0.1, 0.3, 0.5, 0.7, 0.9), 0.04),  # wire grid
    _Fence(2.00, 0.10, (0.35, 0.8), 0.3),  # guard rail
    _Fence(0.22, 0.15, (0.2, 0.8), 0.06),  # boards
)


def draw_wall(
    rng: np.random.Generator, canvas: Canvas, street: Street, side: int, start: float, end: float
) -> None:
    """Draw a free-standing wall: concrete, brick or plaster; for the arguments see `draw_house`."""
    wall = Facade(street, street.fronts[side], start, end, top=rng.uniform(1.3, 4.0))
    colour = random_colour(rng, (0, 0.5), (0.3, 0.85))
    colour = colour * street.light.shade(np.array([-1.0 if side else 1.0, 0, 0]))
    canvas.polygon(wall.outline, colour, labels.WALL)
    draw_cladding(rng, canvas, wall, colour)
    posts = np.arange(start, end, rng.uniform(1.5, 4))
    canvas.lines(wall.seams(posts), 0.8, colour * 0.75)
    if rng.random() < 0.6:
        coping = wall.rectangles(start, end, wall.top - 0.2, wall.top)
        canvas.polygons(coping, np.minimum(colour * 1.3, 240))
    if rng.random() < 0.3:  # graffiti
        at = rng.uniform(start, end, int(rng.integers(1, 5)))
        for mark in wall.rectangles(at, at + 2, 0.4, 0.7 * wall.top):
            canvas.polygon(mark, random_colour(rng, (0.2, 1), (0.2, 1)))


def draw_fence(
    rng: np.random.Generator, canvas: Canvas, street: Street, u: float, start: float, end: float
) -> None:
    """Draw a see-through fence at `u`; all of its outline is labelled fence."""
    fence = Facade(street, u, start, end, top=rng.uniform(0.9, 2.2))
    kind = _FENCES[int(rng.integers(len(_FENCES)))]
    colour = jitter(rng, grey(rng.uniform(40, 215)), 0.1)
    canvas.stencil(fence.outline, labels.FENCE)
    posts = np.arange(start, end, kind.pitch * rng.uniform(0.8, 1.3))
    bars = fence.rectangles(posts, posts + kind.upright, 0.0, fence.top)
    canvas.polygons(bars, colour, labels.FENCE)
    heights = fence.top * np.array(kind.rails)
    rails = fence.rectangles(start, end, heights, heights + kind.rail)
    canvas.polygons(rails, colour * 1.1, labels.FENCE)


def draw_hedge(
    rng: np.random.Generator, canvas: Canvas, street: Street, u: float, start: float, end: float
) -> None:
    """Draw a hedge or a row of bushes at `u`."""
    height = rng.uniform(0.9, 3.0)
    colour = jitter(rng, np.array([45.0, 90.0, 65.0]), 0.25)
    for z in np.arange(start, end, max(0.7 * height, 0.9))[::-1]:
        canvas.set_depth(z)
        draw_foliage(rng, canvas, street.frame(u, z), 0.5 * height, 0.62 * height, colour)
