"""Cars, trucks, buses and trams, each a solid or two with windows, lights and wheels."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, Colour, grey, random_colour
from .solids import Solid
from .street import Light

# Side views: (along, up) as fractions of length and height, and what the edge to the next corner
# is made of. The front is to the right.
_CARS = {
    'hatchback': [(-0.5, 0.17, 'dark'), (0.5, 0.17, 'front'), (0.49, 0.5, 'body'),
                  (0.2, 0.62, 'glass'), (0.02, 1.0, 'body'), (-0.4, 0.97, 'glass'),
                  (-0.49, 0.58, 'rear')],
    'saloon': [(-0.5, 0.17, 'dark'), (0.5, 0.17, 'front'), (0.49, 0.5, 'body'),
               (0.22, 0.62, 'glass'), (0.06, 1.0, 'body'), (-0.2, 0.98, 'glass'),
               (-0.36, 0.64, 'body'), (-0.5, 0.6, 'rear')],
    'estate': [(-0.5, 0.17, 'dark'), (0.5, 0.17, 'front'), (0.49, 0.48, 'body'),
               (0.22, 0.6, 'glass'), (0.05, 0.98, 'body'), (-0.44, 1.0, 'glass'),
               (-0.5, 0.58, 'rear')],
    'van': [(-0.5, 0.14, 'dark'), (0.5, 0.14, 'front'), (0.48, 0.45, 'body'),
            (0.36, 0.56, 'glass'), (0.22, 0.97, 'body'), (-0.49, 1.0, 'glass'),
            (-0.5, 0.5, 'rear')],
}  # fmt: skip
_CAR_WINDOWS = {
    'hatchback': [(0.15, 0.63), (0.0, 0.93), (-0.37, 0.9), (-0.43, 0.62)],
    'saloon': [(0.17, 0.63), (0.04, 0.93), (-0.19, 0.91), (-0.31, 0.64)],
    'estate': [(0.17, 0.61), (0.03, 0.92), (-0.41, 0.93), (-0.45, 0.61)],
    'van': [(0.31, 0.57), (0.19, 0.9), (0.05, 0.9), (0.05, 0.57)],
}
_CAR_SIZES = {
    'hatchback': (3.9, 1.5),
    'saloon': (4.6, 1.45),
    'estate': (4.6, 1.55),
    'van': (5.2, 2.1),
}


def _paint(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.55:
        return grey(rng.choice([rng.uniform(15, 60), rng.uniform(90, 170), rng.uniform(190, 245)]))
    return random_colour(rng, (0.35, 0.95), (0.2, 0.9))


def _paints(kinds: list[str], body: Colour, glass: Colour) -> list[Colour]:
    return [{'dark': grey(20), 'glass': glass}.get(kind, body) for kind in kinds]


def _shadow(canvas: Canvas, frame: Frame, length: float, half: float) -> None:
    """Darken the ground below; the ground keeps its label."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [0.53 * length, 1.12 * half]
    ground = np.column_stack([corners, np.zeros(4)])
    canvas.polygon(frame.project(ground), grey(28))


def _wheels(
    canvas: Canvas, solid: Solid, positions: list[float], radius: float, label: int
) -> None:
    """Draw wheels on the side that is seen, and tyres below the end that is seen."""
    angle = np.linspace(0, 2 * np.pi, 15)[:-1]
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    along = solid.frame.eye()[0]
    end = min(positions, key=lambda position: abs(position - along))
    for side in (-1, 1):
        inner, outer = side * 0.72 * solid.half, side * 0.98 * solid.half
        back = end + np.sign(along - end) * radius * 0.8
        tyre = [(back, inner, 0), (back, outer, 0), (back, outer, radius), (back, inner, radius)]
        canvas.polygon(solid.frame.project(np.array(tyre)), grey(18), label)
    if solid.side_seen():
        centres = np.array([[position, radius] for position in positions])[:, None]
        canvas.polygons(solid.on_side(centres + radius * circle), grey(22), label)
        canvas.polygons(solid.on_side(centres + 0.58 * radius * circle), grey(120))


def _lamps(
    rng: np.random.Generator, canvas: Canvas, solid: Solid, light: Light, front: int, rear: int,
    band: tuple[float, float],
) -> None:  # fmt: skip
    """Draw head lamps, tail lamps and the number plate on whichever end is seen."""
    seen = solid.edges_seen()
    braking = rng.random() < 0.4
    for edge, lamp in ((front, np.array([225.0, 240, 245])), (rear, np.array([30.0, 25, 190]))):
        if edge not in seen:
            continue
        flip = (1 - band[1], 1 - band[0]) if edge == rear else band
        ink = lamp * (1.2 if braking or light.lamps else 0.85)
        for side in (-1, 1):
            quad = solid.on_edge(edge, (side * 0.95, side * 0.62), flip)
            canvas.polygon(quad, ink)
            if light.lamps or (edge == rear and braking):
                x, y = quad.mean(axis=0)
                size = (0.45 if edge == rear else 0.9) * solid.frame.scale
                canvas.glow(float(x), float(y), size, ink)
        plate = (0.55, 0.7) if edge == rear else (0.25, 0.4)
        canvas.polygon(solid.on_edge(edge, (-0.28, 0.28), plate), grey(215))
        if edge == front:
            canvas.polygon(solid.on_edge(edge, (-0.5, 0.5), (0.5, 0.8)), grey(35))


def draw_car(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a hatchback, saloon, estate or van."""
    kind = str(rng.choice(list(_CARS), p=[0.35, 0.25, 0.25, 0.15]))
    length, height = np.array(_CAR_SIZES[kind]) * rng.uniform(0.92, 1.12, 2)
    half = rng.uniform(0.83, 0.95)
    size = np.array([length, height])
    profile = _CARS[kind]
    solid = Solid(frame, np.array([[a, u] for a, u, _ in profile]) * size, half)
    body = _paint(rng)
    glass = light.skyline * rng.uniform(0.1, 0.5) + 10
    kinds = [made_of for _, _, made_of in profile]
    _shadow(canvas, frame, length, half)
    solid.draw(canvas, light, _paints(kinds, body, glass), labels.CAR, body)
    _wheels(canvas, solid, [-0.31 * length, 0.31 * length], rng.uniform(0.3, 0.36), labels.CAR)
    if solid.side_seen():
        canvas.polygon(solid.on_side(np.array(_CAR_WINDOWS[kind]) * size), glass * 0.9)
        pillar = np.array([[-0.1, 0.6], [-0.1, 0.95], [-0.125, 0.95], [-0.125, 0.6]])
        canvas.polygon(solid.on_side(pillar * size), body * 0.8)
        line = np.array([[[-0.45, 0.42], [0.45, 0.42]]])
        canvas.lines(solid.on_side(line * size), 0.5, body * 0.6)
    _lamps(rng, canvas, solid, light, kinds.index('front'), kinds.index('rear'), (0.5, 0.85))


def _box(length: float, low: float, high: float, shift: float = 0.0) -> np.ndarray:
    near, far = shift - length / 2, shift + length / 2
    return np.array([[near, low], [far, low], [far, high], [near, high]])


def draw_truck(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a lorry: a cab and a box, a tank-like or an open load behind it."""
    length, half = rng.uniform(6, 10), rng.uniform(1.15, 1.28)
    high, cab_high = rng.uniform(2.8, 3.8), rng.uniform(2.3, 3.0)
    cab_length = rng.uniform(1.6, 2.2)
    cargo = Solid(frame, _box(length - cab_length, 1.0, high, -cab_length / 2), half)
    nose = length / 2
    outline = np.array(
        [
            [nose - cab_length, 0.5],
            [nose, 0.5],
            [nose, 1.4],
            [nose - 0.25, cab_high],
            [nose - cab_length, cab_high],
        ]
    )
    cab = Solid(frame, outline, half * 0.96)
    chassis = Solid(frame, _box(length, 0.45, 1.0), half * 0.8)
    cab_paint, load_paint = (
        _paint(rng),
        grey(225) if rng.random() < 0.35 else random_colour(rng, (0, 0.8), (0.2, 0.95)),
    )
    glass = light.skyline * rng.uniform(0.1, 0.45) + 10
    label = labels.TRUCK
    _shadow(canvas, frame, length, half)
    chassis.draw(canvas, light, [grey(30)] * 4, label, grey(35))
    parts = [(cab, _paints(['dark', 'front', 'glass', 'body', 'body'], cab_paint, glass), cab_paint),
             (cargo, [load_paint] * 4, load_paint)]  # fmt: skip
    if frame.eye()[0] > 0:
        parts.reverse()
    for solid, paints, body in parts:
        solid.draw(canvas, light, paints, label, body)
    radius = rng.uniform(0.42, 0.52)
    _wheels(
        canvas,
        Solid(frame, chassis.outline, half),
        [-0.38 * length, -0.25 * length, 0.36 * length],
        radius,
        label,
    )
    if cab.side_seen():
        window = np.array(
            [
                [nose - 0.45, 1.5],
                [nose - 0.6, cab_high - 0.25],
                [nose - 1.2, cab_high - 0.25],
                [nose - 1.2, 1.5],
            ]
        )
        canvas.polygon(cab.on_side(window), glass)
        ribs = np.arange(-length / 2, nose - cab_length, rng.uniform(0.5, 2.5))
        lines = np.stack(
            [np.stack([ribs, np.full_like(ribs, up)], -1) for up in (1.0, high)], axis=1
        )
        canvas.lines(cargo.on_side(lines), 0.5, load_paint * 0.75)
    if 3 in cargo.edges_seen():
        canvas.lines(cargo.on_edge(3, (-0.02, 0.02), (0, 1))[None], 0.6, load_paint * 0.5)
    _lamps(rng, canvas, cab, light, 1, 99, (0.1, 0.35))
    _lamps(rng, canvas, chassis, light, 99, 3, (0.3, 0.8))


def _window_band(
    canvas: Canvas,
    solid: Solid,
    length: float,
    up: tuple[float, float],
    pitch: float,
    glass: Colour,
) -> None:
    starts = np.arange(-length / 2 + 0.4, length / 2 - pitch, pitch)
    size = pitch - 0.15
    panes = [[[a, up[0]], [a + size, up[0]], [a + size, up[1]], [a, up[1]]] for a in starts]
    canvas.polygons(solid.on_side(np.array(panes)), glass)


def draw_bus(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a city bus or coach."""
    length, high, half = rng.uniform(9, 12.5), rng.uniform(2.9, 3.3), 1.27
    nose = length / 2
    outline = np.array(
        [
            [-nose, 0.3],
            [nose, 0.3],
            [nose, 1.1],
            [nose - 0.15, high - 0.35],
            [nose - 0.2, high],
            [-nose, high],
        ]
    )
    solid = Solid(frame, outline, half)
    body = random_colour(rng, (0.1, 0.95), (0.35, 0.95))
    glass = light.skyline * rng.uniform(0.1, 0.35) + (70 if light.lamps else 10)
    _shadow(canvas, frame, length, half)
    kinds = ['dark', 'front', 'glass', 'front', 'body', 'rear']
    solid.draw(canvas, light, _paints(kinds, body, glass), labels.BUS, body)
    _wheels(canvas, solid, [-0.27 * length, 0.32 * length], 0.48, labels.BUS)
    if solid.side_seen():
        _window_band(canvas, solid, length, (1.25, high - 0.6), rng.uniform(1.1, 1.7), glass)
        if rng.random() < 0.5:
            stripe = np.array([[-nose, 0.6], [nose, 0.6], [nose, 0.9], [-nose, 0.9]])
            canvas.polygon(solid.on_side(stripe), random_colour(rng, (0, 1), (0.2, 1)))
        for door in (nose - 1.4, -0.1 * length):
            leaf = np.array(
                [[door, 0.4], [door + 1.1, 0.4], [door + 1.1, high - 0.6], [door, high - 0.6]]
            )
            canvas.polygon(solid.on_side(leaf), glass * 0.7)
    if 5 in solid.edges_seen():
        canvas.polygon(solid.on_edge(5, (-0.85, 0.85), (0.1, 0.45)), glass)
        canvas.polygon(solid.on_edge(5, (-0.4, 0.4), (0.02, 0.08)), np.array([40.0, 170, 250]))
    if 3 in solid.edges_seen():
        canvas.polygon(solid.on_edge(3, (-0.6, 0.6), (0.1, 0.9)), np.array([40.0, 180, 250]))
    _lamps(rng, canvas, solid, light, 1, 5, (0.3, 0.6))


def draw_tram(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a tram of two or three cars, with its current collector; the class is train."""
    high, half, car = rng.uniform(3.3, 3.7), rng.uniform(1.15, 1.3), rng.uniform(8, 11)
    body, stripe = (
        random_colour(rng, (0, 0.95), (0.35, 0.95)),
        random_colour(rng, (0, 0.9), (0.1, 0.9)),
    )
    glass = light.skyline * rng.uniform(0.1, 0.35) + (70 if light.lamps else 10)
    _shadow(canvas, frame, car * 2, half)
    shifts = np.array([-1, 1]) * car / 2
    away = np.argsort(-np.abs(shifts - frame.eye()[0]))
    for shift in shifts[away]:
        outline = np.array(
            [
                [-0.5 * car, 0.15],
                [0.5 * car, 0.15],
                [0.5 * car, 1.2],
                [0.5 * car - 0.5 * (shift > 0), high - 0.2],
                [0.5 * car - 0.7 * (shift > 0), high],
                [-0.5 * car + 0.7 * (shift < 0), high],
                [-0.5 * car + 0.5 * (shift < 0), high - 0.2],
                [-0.5 * car, 1.2],
            ]
        )
        solid = Solid(frame, (outline + [shift, 0]) * [0.985, 1], half)
        kinds = ['dark', 'front', 'glass', 'body', 'body', 'body', 'glass', 'rear']
        solid.draw(canvas, light, _paints(kinds, body, glass), labels.TRAIN, body)
        if solid.side_seen():
            starts = shift + np.arange(-0.45 * car, 0.35 * car, 1.5)
            panes = np.array(
                [[[a, 1.2], [a + 1.3, 1.2], [a + 1.3, high - 0.8], [a, high - 0.8]] for a in starts]
            )
            canvas.polygons(solid.on_side(panes), glass)
            low = 0.15 if rng.random() < 0.5 else 0.8
            band = np.array([[-0.5, low], [0.5, low], [0.5, low + 0.35], [-0.5, low + 0.35]]) * [
                car,
                1,
            ] + [shift, 0]
            canvas.polygon(solid.on_side(band), stripe)
        ends = [1] if shift > 0 else [7]
        if ends[0] in solid.edges_seen():
            for side in (-0.7, 0.55):
                canvas.polygon(
                    solid.on_edge(ends[0], (side, side + 0.15), (0.4, 0.6)),
                    np.array([215.0, 235, 245]) if shift > 0 else np.array([35.0, 30, 210]),
                )
    top = [(0, 0, high), (0.6, 0, high + 0.6), (0, 0, high + 1.2)]
    canvas.lines(frame.project(np.array(top))[None], 0.06 * frame.scale, grey(50), labels.TRAIN)
    bow = [(0, -0.8, high + 1.2), (0, 0.8, high + 1.2)]
    canvas.lines(frame.project(np.array(bow))[None], 0.06 * frame.scale, grey(50), labels.TRAIN)
