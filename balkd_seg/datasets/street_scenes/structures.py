"""What lines a street: houses, walls, fences, guard rails and hedges."""

import numpy as np

from . import labels
from .canvas import Canvas, Colour, grey, jitter, random_colour
from .plants import draw_foliage
from .street import Street


def _quads(
    street: Street, u: float, z0: np.ndarray, z1: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return (K, 4, 2) pixels of upright rectangles on the plane beside the street at `u`."""
    z = np.stack([z0, z0, z1, z1], axis=-1)
    up = np.stack([low, high, high, low], axis=-1)
    return street.points(u, up, z)


def _grid(
    start: float, end: float, pitch: float, size: float, rows: np.ndarray, height: float
) -> tuple[np.ndarray, ...]:
    """Return z0, z1, low, high of a grid of rectangles, flattened."""
    columns = np.arange(start + 0.5 * pitch, end - 0.4 * pitch, pitch)
    z, low = np.meshgrid(columns, rows)
    z, low = z.ravel(), low.ravel()
    return z - size / 2, z + size / 2, low, low + height


def draw_house(
    rng: np.random.Generator, canvas: Canvas, street: Street, side: int, start: float, end: float
) -> None:
    """Draw a house with its gable towards the camera.

    Args:
        rng: Source of its looks.
        canvas: Drawn on.
        street: Where it stands.
        side: 0 left, 1 right.
        start: Near end along the street in metres.
        end: Far end.
    """
    u = street.fronts[side]
    out = 1 if side else -1
    floors = int(rng.integers(1, 8))
    storey = rng.uniform(2.8, 3.6)
    top = floors * storey + rng.uniform(0.5, 1.5)
    colour = random_colour(rng, (0, 0.5), (0.25, 0.95))
    front = colour * street.light.shade(np.array([-out, 0.0, 0.0]))
    gable = colour * street.light.shade(np.array([0.0, 0.0, -1.0]))

    depth = u + out * rng.uniform(8, 14)
    edges = np.array([u, u, depth, depth])
    canvas.polygon(
        street.points(edges, np.array([0, top, top, 0]), np.full(4, start)), gable, labels.BUILDING
    )
    if rng.random() < 0.5:
        _draw_gable_windows(rng, canvas, street, start, (u, depth), floors, storey)
    one = np.ones(1)
    wall = _quads(street, u, start * one, end * one, 0 * one, top * one)
    canvas.polygons(wall, front, labels.BUILDING)
    if floors < 5 and rng.random() < 0.6:
        _draw_roof(rng, canvas, street, (u, out), start, end, top)
    _draw_cladding(rng, canvas, street, u, start, end, top, front)
    _draw_windows(rng, canvas, street, u, start, end, floors, storey, front)


def _draw_roof(
    rng: np.random.Generator, canvas: Canvas, street: Street, at: tuple[float, int],
    start: float, end: float, top: float,
) -> None:  # fmt: skip
    u, out = at
    tiles = np.array([rng.uniform(40, 90), rng.uniform(45, 90), rng.uniform(60, 160)])
    ridge, rise = u + out * 4.0, rng.uniform(2, 4)
    z = np.array([start, start, end, end])
    roof = street.points(np.array([u - out * 0.4, ridge, ridge, u - out * 0.4]),
                         np.array([top, top + rise, top + rise, top]), z)  # fmt: skip
    canvas.polygon(
        roof, tiles * street.light.shade(np.array([-0.5 * out, 0.8, 0.0])), labels.BUILDING
    )
    triangle = street.points(
        np.array([u, ridge, u + out * 8]), np.array([top, top + rise, top]), np.full(3, start)
    )
    canvas.polygon(triangle, tiles * 0.8, labels.BUILDING)


def _draw_gable_windows(
    rng: np.random.Generator, canvas: Canvas, street: Street, start: float,
    span: tuple[float, float], floors: int, storey: float,
) -> None:  # fmt: skip
    low_u, high_u = sorted(span)
    glass = grey(rng.uniform(30, 130))
    shapes = []
    for u in np.arange(low_u + 1.2, high_u - 1, rng.uniform(2, 3.5)):
        for floor in range(floors):
            up = floor * storey + np.array([0.9, 2.3, 2.3, 0.9])
            shapes.append(street.points(u + np.array([0, 0, 1, 1]), up, np.full(4, start)))
    canvas.polygons(shapes, glass)


def _draw_cladding(
    rng: np.random.Generator, canvas: Canvas, street: Street, u: float,
    start: float, end: float, top: float, colour: Colour,
) -> None:  # fmt: skip
    """Draw courses, panels or stains on a wall, so that no wall is one flat colour."""
    contrast = rng.choice([-1, 1]) * rng.uniform(0.04, 0.16)
    if rng.random() < 0.6:
        pitch = rng.uniform(0.3, 1.2)
        rows = np.arange(0, min(top, 15), pitch)[:, None] * np.ones(2)
        lines = street.points(u, rows, np.array([start, end]))
        canvas.lines(lines, 0.5, colour * (1 + contrast))
    if rng.random() < 0.5:
        columns = np.arange(start, end, rng.uniform(1, 4))[:, None] * np.ones(2)
        canvas.lines(street.points(u, np.array([0, top]), columns), 0.5, colour * (1 - contrast))
    count = int(rng.integers(0, 5))
    z, low = rng.uniform(start, end, count), rng.uniform(0, top, count)
    length, height = rng.uniform(0.5, 4, count), rng.uniform(0.5, 4, count)
    stains = _quads(street, u, z, np.minimum(z + length, end), low, np.minimum(low + height, top))
    canvas.polygons(stains, colour * (1 + contrast))


def _draw_windows(
    rng: np.random.Generator, canvas: Canvas, street: Street, u: float,
    start: float, end: float, floors: int, storey: float, colour: Colour,
) -> None:  # fmt: skip
    pitch, width = rng.uniform(1.8, 3.6), rng.uniform(0.8, 1.6)
    height, sill = rng.uniform(1.1, 1.9), rng.uniform(0.7, 1.0)
    glass, pale = grey(rng.uniform(25, 110)), street.light.skyline * rng.uniform(0.5, 0.9)
    lit = np.array([120.0, 200, 245]) * (2.2 if street.light.exposure < 0.55 else 1.0)
    shop = rng.random() < 0.4
    rows = np.arange(1 if shop else 0, floors) * storey + sill
    z0, z1, low, high = _grid(start, end, pitch, width, rows, height)
    if rng.random() < 0.6:
        frame = colour * rng.uniform(1.1, 1.4) if rng.random() < 0.6 else grey(210)
        canvas.polygons(_quads(street, u, z0 - 0.12, z1 + 0.12, low - 0.15, high + 0.12), frame)
    panes = _quads(street, u, z0, z1, low, high)
    kind = rng.choice(
        3, len(panes), p=[0.35, 0.25, 0.4] if street.light.lamps else [0.65, 0.33, 0.02]
    )
    for index, ink in enumerate((glass, pale, lit)):
        canvas.polygons(panes[kind == index], ink)
    if shop:
        bay = rng.uniform(3, 6)
        z0, z1, low, high = _grid(start, end, bay, bay * 0.8, np.array([0.3]), storey - 1.0)
        canvas.polygons(_quads(street, u, z0, z1, low, high), lit if street.light.lamps else glass)
        sign = _quads(street, u, z0, z1, high + 0.1, high + 0.6)
        canvas.polygons(sign, random_colour(rng, (0.3, 1), (0.3, 1)))
    else:
        at = rng.uniform(start, max(start + 0.1, end - 1.5)) * np.ones(1)
        canvas.polygons(_quads(street, u, at, at + 1.1, 0 * at, 0 * at + 2.2), colour * 0.5)


def draw_wall(
    rng: np.random.Generator, canvas: Canvas, street: Street, side: int, start: float, end: float
) -> None:
    """Draw a free-standing wall: concrete, brick or plaster, with a coping."""
    u = street.fronts[side]
    top = rng.uniform(1.3, 4.0)
    colour = random_colour(rng, (0, 0.5), (0.3, 0.85))
    colour = colour * street.light.shade(np.array([-1.0 if side else 1.0, 0, 0]))
    one = np.ones(1)
    canvas.polygons(
        _quads(street, u, start * one, end * one, 0 * one, top * one), colour, labels.WALL
    )
    _draw_cladding(rng, canvas, street, u, start, end, top, colour)
    pitch = rng.uniform(1.5, 4)
    columns = np.arange(start, end, pitch)[:, None] * np.ones(2)
    canvas.lines(street.points(u, np.array([0, top]), columns), 0.8, colour * 0.75)
    if rng.random() < 0.6:
        coping = _quads(street, u, start * one, end * one, (top - 0.2) * one, top * one)
        canvas.polygons(coping, np.minimum(colour * 1.3, 240))
    if rng.random() < 0.3:  # graffiti
        count = int(rng.integers(1, 5))
        z = rng.uniform(start, end, count)
        marks = _quads(street, u, z, np.minimum(z + 2, end), one * 0.4, one * 0.7 * top)
        for mark in marks:
            canvas.polygon(mark, random_colour(rng, (0.2, 1), (0.2, 1)))


def draw_fence(
    rng: np.random.Generator, canvas: Canvas, street: Street, u: float, start: float, end: float
) -> None:
    """Draw a see-through fence: pickets, a grid or a guard rail; all of it is labelled fence."""
    top = rng.uniform(0.9, 2.2)
    colour = jitter(rng, grey(rng.uniform(40, 215)), 0.1)
    one = np.ones(1)
    outline = _quads(street, u, start * one, end * one, 0 * one, top * one)[0]
    canvas.stencil(outline, labels.FENCE)
    kind = rng.choice(['pickets', 'grid', 'rail', 'boards'])
    pitch = {'pickets': 0.25, 'grid': 0.6, 'rail': 2.0, 'boards': 0.22}[kind]
    z = np.arange(start, end, pitch * rng.uniform(0.8, 1.3))
    size = {'pickets': 0.05, 'grid': 0.03, 'rail': 0.1, 'boards': 0.15}[kind]
    bars = _quads(street, u, z, np.minimum(z + size, end), 0 * z, 0 * z + top)
    canvas.polygons(bars, colour, labels.FENCE)
    heights = {
        'pickets': np.array([0.15, top - 0.15]),
        'grid': np.arange(0.1, top, 0.25),
        'rail': np.array([0.35 * top, top - 0.25]),
        'boards': np.array([0.2, top - 0.2]),
    }[kind]
    thick = 0.3 if kind == 'rail' else 0.05
    same = np.ones_like(heights)
    rails = _quads(street, u, start * same, end * same, heights, heights + thick)
    canvas.polygons(rails, colour * 1.1, labels.FENCE)


def draw_hedge(
    rng: np.random.Generator, canvas: Canvas, street: Street, side: int, start: float, end: float
) -> None:
    """Draw a hedge or a row of bushes along the frontage."""
    u = street.fronts[side]
    height = rng.uniform(0.9, 3.0)
    colour = jitter(rng, np.array([45.0, 90.0, 65.0]), 0.25)
    for z in np.arange(start, end, max(0.7 * height, 0.9))[::-1]:
        canvas.depth = z
        draw_foliage(rng, canvas, street.frame(u, z), 0.5 * height, 0.62 * height, colour)
