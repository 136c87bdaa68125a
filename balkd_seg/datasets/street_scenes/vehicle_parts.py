"""What cars, trucks, buses and trams have in common: paint, wheels, lamps, windows, shadow."""

import numpy as np

from .camera import Frame
from .canvas import Canvas, Colour, grey, random_colour
from .solids import Solid
from .street import Light


def random_paint(rng: np.random.Generator) -> Colour:
    """Draw the colour of a coachwork: black, grey, white, or any other."""
    if rng.random() < 0.55:
        return grey(rng.choice([rng.uniform(15, 60), rng.uniform(90, 170), rng.uniform(190, 245)]))
    return random_colour(rng, (0.35, 0.95), (0.2, 0.9))


def paints(kinds: list[str], body: Colour, glass: Colour) -> list[Colour]:
    """Return the colour of each face from what it is made of."""
    return [{'dark': grey(20), 'glass': glass}.get(kind, body) for kind in kinds]


def random_glass(rng: np.random.Generator, light: Light, lit: float = 0.0) -> Colour:
    """Draw the colour of windows: dark, with some sky in them, brighter by `lit` at night."""
    return light.skyline * rng.uniform(0.1, 0.45) + (10 + lit * light.lamps)


def draw_shadow(canvas: Canvas, frame: Frame, length: float, half: float) -> None:
    """Darken the ground below; the ground keeps its label."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [0.53 * length, 1.12 * half]
    canvas.polygon(frame.project(np.column_stack([corners, np.zeros(4)])), grey(28))


def draw_wheels(
    canvas: Canvas, solid: Solid, positions: list[float], radius: float, label: int
) -> None:
    """Draw wheels on the side that is seen, and tyres below the end that is seen.

    Args:
        canvas: Drawn on.
        solid: What rolls on them.
        positions: Where the axles are along it, metres.
        radius: Of a wheel, metres.
        label: Class of the vehicle.
    """
    along = solid.frame.eye()[0]
    end = min(positions, key=lambda position: abs(position - along))
    back = end + np.sign(along - end) * radius * 0.8
    for side in (-1, 1):
        inner, outer = side * 0.72 * solid.half, side * 0.98 * solid.half
        tyre = [(back, inner, 0), (back, outer, 0), (back, outer, radius), (back, inner, radius)]
        canvas.polygon(solid.frame.project(np.array(tyre)), grey(18), label)
    if solid.side_seen():
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        centres = np.array([[position, radius] for position in positions])[:, None]
        for wheel in solid.on_side(centres + radius * circle):  # one by one: they may overlap
            canvas.polygon(wheel, grey(22), label)
        canvas.polygons(solid.on_side(centres + 0.58 * radius * circle), grey(120))


def draw_head_lamps(
    canvas: Canvas, solid: Solid, light: Light, edge: int, band: tuple[float, float]
) -> None:
    """Draw head lamps, grille and number plate on an edge's face, if it is seen.

    Args:
        canvas: Drawn on.
        solid: The vehicle.
        light: Lamps glow where it is dark.
        edge: Which face; its first corner is the lower one.
        band: Range of the lamps along the edge, 0 to 1.
    """
    if edge in solid.edges_seen():
        _lamp_pair(canvas, solid, edge, band, np.array([225.0, 240, 245]), 0.9 * light.lamps)
        canvas.polygon(solid.on_edge(edge, (-0.28, 0.28), (0.25, 0.4)), grey(215))
        canvas.polygon(solid.on_edge(edge, (-0.5, 0.5), (0.5, 0.8)), grey(35))


def draw_tail_lamps(
    rng: np.random.Generator, canvas: Canvas, solid: Solid, light: Light, edge: int,
    band: tuple[float, float],
) -> None:  # fmt: skip
    """Draw tail lamps, braking or not, and the number plate; the edge's first corner is upper."""
    if edge in solid.edges_seen():
        braking = rng.random() < 0.4
        ink = np.array([30.0, 25, 190]) * (1.2 if braking or light.lamps else 0.85)
        _lamp_pair(canvas, solid, edge, band, ink, 0.45 * (braking or light.lamps))
        canvas.polygon(solid.on_edge(edge, (-0.28, 0.28), (0.55, 0.7)), grey(215))


def _lamp_pair(
    canvas: Canvas, solid: Solid, edge: int, band: tuple[float, float], ink: Colour, glow: float
) -> None:
    for side in (-1, 1):
        lamp = solid.on_edge(edge, (side * 0.95, side * 0.62), band)
        canvas.polygon(lamp, ink)
        if glow:
            x, y = lamp.mean(axis=0).tolist()
            canvas.glow(x, y, glow * solid.frame.scale, ink)


def draw_window_row(
    canvas: Canvas, solid: Solid, along: tuple[float, float], up: tuple[float, float],
    pitch: float, glass: Colour,
) -> None:  # fmt: skip
    """Draw a row of windows on the side that is seen, metres along and up."""
    panes = [
        [[left, up[0]], [left + pitch - 0.15, up[0]], [left + pitch - 0.15, up[1]], [left, up[1]]]
        for left in np.arange(along[0], along[1] - pitch, pitch)
    ]
    canvas.polygons(solid.on_side(np.array(panes)), glass)


def side_panel(
    canvas: Canvas, solid: Solid, along: tuple[float, float], up: tuple[float, float], ink: Colour
) -> None:
    """Paint a rectangle on the side that is seen, metres along and up."""
    corners = [[along[0], up[0]], [along[1], up[0]], [along[1], up[1]], [along[0], up[1]]]
    canvas.polygon(solid.on_side(np.array(corners)), ink)
