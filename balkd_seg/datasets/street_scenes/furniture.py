"""Street furniture: lamps, poles, traffic lights, traffic signs, bins."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, Colour, grey, random_colour
from .street import Light


def _pole(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, height: float, width: float
) -> Colour:
    """Draw a pole and return its colour."""
    colour = grey(rng.uniform(35, 190)) + rng.normal(0, 8, 3)
    x, y = frame.foot
    shaft = np.array([[[x, y], [x, y - height * frame.scale]]])
    canvas.lines(shaft, max(width * frame.scale, 0.7), colour, labels.POLE)
    return colour


def draw_lamp(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a street lamp, or a bare pole."""
    height = rng.uniform(5, 9)
    colour = _pole(rng, canvas, frame, height, rng.uniform(0.1, 0.22))
    if rng.random() < 0.3:
        return
    x, y = frame.foot
    scale = frame.scale
    y -= height * scale
    reach = (-1 if frame.x > 0 else 1) * rng.uniform(0.8, 2.5) * scale
    canvas.lines(
        np.array([[[x, y], [x + reach, y - 0.25 * scale]]]), 0.09 * scale, colour, labels.POLE
    )
    head = np.array(
        [
            [0.8 * reach, -0.3 * scale],
            [1.3 * reach, -0.3 * scale],
            [1.3 * reach, -0.12 * scale],
            [0.8 * reach, -0.12 * scale],
        ]
    )
    canvas.polygon(head + [x, y], colour * 1.1, labels.POLE)
    if light.lamps:
        canvas.glow(x + 1.05 * reach, y, 1.3 * scale, np.array([140.0, 205, 255]))


def draw_bollards(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw a short post."""
    _pole(rng, canvas, frame, rng.uniform(0.8, 1.1), rng.uniform(0.1, 0.18))


def draw_traffic_light(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light
) -> None:
    """Draw a traffic light on its pole, sometimes with a second one on an arm over the road."""
    height = rng.uniform(2.6, 3.6)
    arm = rng.random() < 0.3
    colour = _pole(rng, canvas, frame, height + (2.4 if arm else 0.3), 0.14)
    x, y = frame.foot
    scale = frame.scale
    state = int(rng.integers(3))
    _lantern(rng, canvas, x, y - height * scale, scale, state, light)
    if arm:
        reach = (-1 if frame.x > 0 else 1) * rng.uniform(2.5, 4.5) * scale
        top = y - (height + 2.4) * scale
        canvas.lines(np.array([[[x, top], [x + reach, top]]]), 0.1 * scale, colour, labels.POLE)
        _lantern(rng, canvas, x + reach, top + 0.6 * scale, scale, state, light)


def _lantern(
    rng: np.random.Generator, canvas: Canvas, x: float, y: float, scale: float, state: int,
    light: Light,
) -> None:  # fmt: skip
    half, tall = 0.19 * scale, 0.55 * scale
    box = np.array([[-half, -tall], [half, -tall], [half, tall], [-half, tall]]) + [x, y]
    canvas.polygon(box, grey(rng.uniform(15, 60)), labels.TRAFFIC_LIGHT)
    if rng.random() < 0.15:  # seen from behind
        return
    inks = np.array([[50.0, 50, 255], [40, 190, 255], [120, 230, 60]])
    for lamp in range(3):
        ink = inks[lamp] if lamp == state else inks[lamp] * 0.2
        canvas.disc(x, y + (lamp - 1) * 0.34 * scale, 0.13 * scale, ink)
    canvas.glow(
        x, y + (state - 1) * 0.34 * scale, 0.35 * scale, inks[state] * (1 if light.lamps else 0.4)
    )


def draw_sign(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw one or two traffic signs on a pole."""
    height = rng.uniform(2.0, 3.2)
    _pole(rng, canvas, frame, height + 0.4, 0.08)
    x, y = frame.foot
    for level in range(1 + int(rng.random() < 0.25)):
        radius = rng.uniform(0.3, 0.5) * frame.scale
        _board(rng, canvas, x, y - (height - 0.85 * level) * frame.scale, radius)


def _board(rng: np.random.Generator, canvas: Canvas, x: float, y: float, radius: float) -> None:
    inks = {'red': (35, 30, 195), 'blue': (165, 85, 25), 'white': (235, 235, 235),
            'yellow': (40, 200, 240), 'back': (135, 135, 135), 'green': (70, 115, 25)}  # fmt: skip
    ink = {name: np.array(value, float) * rng.uniform(0.75, 1.1) for name, value in inks.items()}
    kind = rng.choice(['ban', 'order', 'warn', 'square', 'stop', 'plate', 'back', 'yield'])
    corners = {'warn': 3, 'yield': 3, 'square': 4, 'stop': 8, 'plate': 4}.get(kind, 20)
    turn = {3: -np.pi / 2, 4: np.pi / 4, 8: np.pi / 8}.get(corners, 0.0)
    if kind == 'yield':
        turn = np.pi / 2
    angle = np.arange(corners) * 2 * np.pi / corners + turn
    shape = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radius
    if kind == 'plate':
        shape *= [1.5, 0.7]
    outer = {'ban': 'red', 'order': 'blue', 'warn': 'red', 'square': 'blue', 'stop': 'red',
             'plate': str(rng.choice(['white', 'yellow', 'green', 'blue'])), 'back': 'back',
             'yield': 'red'}[kind]  # fmt: skip
    canvas.polygon(shape + [x, y], ink[outer], labels.TRAFFIC_SIGN)
    if kind in ('ban', 'warn', 'yield'):
        canvas.polygon(0.72 * shape + [x, y], ink['white'])
    if kind != 'back':
        mark = grey(30) if kind in ('ban', 'warn', 'plate') else ink['white']
        half = radius * rng.uniform(0.1, 0.35, 2)
        glyph = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        canvas.polygon(glyph + [x, y], mark)


def draw_clutter(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw a bin, a box or a kiosk: things without a class, labelled to be ignored."""
    width, height = rng.uniform(0.4, 1.2), rng.uniform(0.5, 1.6)
    colour = random_colour(rng, (0, 0.8), (0.15, 0.8))
    x, y = frame.foot
    box = np.array([[-0.5, 0], [-0.45, -1], [0.45, -1], [0.5, 0]]) * [width, height] * frame.scale
    canvas.polygon(box + [x, y], colour, labels.IGNORE)
    lid = np.array([[-0.5, -1], [-0.5, -0.85], [0.5, -0.85], [0.5, -1]]) * [width, height]
    canvas.polygon(lid * frame.scale + [x, y], colour * 0.6)
