"""Houses: fronts with windows, shops and doors, gables and roofs."""

import numpy as np

from . import labels
from .canvas import Canvas, Colour, grey, random_colour
from .facades import Facade, draw_cladding
from .street import Street

_LAMP_LIGHT = np.array([120.0, 200, 245])


def draw_house(
    rng: np.random.Generator, canvas: Canvas, street: Street, side: int, start: float, end: float
) -> None:
    """Draw a house.

    Args:
        rng: Source of its looks.
        canvas: Drawn on.
        street: Where it stands.
        side: 0 left, 1 right.
        start: Near end along the street in metres.
        end: Far end.
    """
    out = 1 if side else -1
    floors, storey = int(rng.integers(1, 8)), rng.uniform(2.8, 3.6)
    top = floors * storey + rng.uniform(0.5, 1.5)
    front = Facade(street, street.fronts[side], start, end, top)
    colour = random_colour(rng, (0, 0.5), (0.25, 0.95))
    _draw_gable(rng, canvas, front, out * rng.uniform(8, 14), floors, storey, colour)
    colour = colour * street.light.shade(np.array([-out, 0.0, 0.0]))
    canvas.polygon(front.outline, colour, labels.BUILDING)
    if floors < 5 and rng.random() < 0.6:
        _draw_roof(rng, canvas, front, out)
    draw_cladding(rng, canvas, front, colour)
    shop = rng.random() < 0.4
    _draw_windows(rng, canvas, front, np.arange(shop, floors) * storey, colour)
    if shop:
        _draw_shop(rng, canvas, front, storey)
    else:
        door = rng.uniform(start, max(start + 0.1, end - 1.5))
        canvas.polygons(front.rectangles(door, door + 1.1, 0.0, 2.2), colour * 0.5)


def _draw_gable(
    rng: np.random.Generator, canvas: Canvas, front: Facade, depth: float, floors: int,
    storey: float, colour: Colour,
) -> None:  # fmt: skip
    """Draw the wall that faces the camera, `depth` metres (signed) away from the street."""
    street, z = front.street, np.full(4, front.start)
    colour = colour * street.light.shade(np.array([0.0, 0.0, -1.0]))
    u, up = np.array([0, 0, depth, depth]), np.array([0, 1, 1, 0])
    canvas.polygon(street.points(front.u + u, front.top * up, z), colour, labels.BUILDING)
    if rng.random() < 0.5:
        left, right = sorted((front.u, front.u + depth))
        columns = np.arange(left + 1.2, right - 1, rng.uniform(2, 3.5))[:, None, None]
        rows = np.arange(floors)[:, None] * storey
        panes = street.points(columns + np.array([0, 0, 1, 1]), rows + 0.9 + 1.4 * up, z)
        canvas.polygons(panes.reshape(-1, 4, 2), grey(rng.uniform(30, 130)))


def _draw_roof(rng: np.random.Generator, canvas: Canvas, front: Facade, out: int) -> None:
    """Draw a pitched roof and the triangle of the gable below it."""
    street, top = front.street, front.top
    tiles = np.array([rng.uniform(40, 90), rng.uniform(45, 90), rng.uniform(60, 160)])
    ridge, rise = front.u + out * 4.0, rng.uniform(2, 4)
    u, up = np.array([front.u, ridge, ridge, front.u]), top + np.array([0, rise, rise, 0])
    z = np.array([front.start, front.start, front.end, front.end])
    slope = street.light.shade(np.array([-0.5 * out, 0.8, 0.0]))
    canvas.polygon(street.points(u, up, z), tiles * slope, labels.BUILDING)
    u, up = np.array([front.u, ridge, front.u + out * 8]), top + np.array([0, rise, 0])
    canvas.polygon(street.points(u, up, np.full(3, front.start)), tiles * 0.8, labels.BUILDING)


def _draw_windows(
    rng: np.random.Generator, canvas: Canvas, front: Facade, storeys: np.ndarray, colour: Colour
) -> None:
    """Draw one row of windows in each storey, given by the heights of their floors."""
    light = front.street.light
    pitch, width = rng.uniform(1.8, 3.6), rng.uniform(0.8, 1.6)
    columns = np.arange(front.start + 0.5 * pitch, front.end - 0.4 * pitch, pitch)
    middle, low = (grid.ravel() for grid in np.meshgrid(columns, storeys + rng.uniform(0.7, 1.0)))
    near, far, high = middle - width / 2, middle + width / 2, low + rng.uniform(1.1, 1.9)
    if rng.random() < 0.6:
        frame = colour * rng.uniform(1.1, 1.4) if rng.random() < 0.6 else grey(210)
        canvas.polygons(front.rectangles(near - 0.12, far + 0.12, low - 0.15, high + 0.12), frame)
    panes = front.rectangles(near, far, low, high)
    dark, pale = grey(rng.uniform(25, 110)), light.skyline * rng.uniform(0.5, 0.9)
    shares = [0.35, 0.25, 0.4] if light.lamps else [0.65, 0.33, 0.02]
    kind = rng.choice(3, len(panes), p=shares)
    for index, ink in enumerate((dark, pale, _LAMP_LIGHT * (2.0 if light.lamps else 0.9))):
        canvas.polygons(panes[kind == index], ink)


def _draw_shop(rng: np.random.Generator, canvas: Canvas, front: Facade, storey: float) -> None:
    """Draw shop windows on the ground floor, with a sign above each."""
    bay, lamps = rng.uniform(3, 6), front.street.light.lamps
    near = np.arange(front.start + 0.1 * bay, front.end - 0.8 * bay, bay)
    glass = _LAMP_LIGHT * 1.8 if lamps else grey(rng.uniform(25, 110))
    canvas.polygons(front.rectangles(near, near + 0.8 * bay, 0.3, storey - 0.7), glass)
    sign = front.rectangles(near, near + 0.8 * bay, storey - 0.6, storey - 0.1)
    canvas.polygons(sign, random_colour(rng, (0.3, 1), (0.3, 1)))
