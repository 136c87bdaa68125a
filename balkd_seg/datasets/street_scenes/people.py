"""People on foot, riders, bicycles and motorcycles: flat figures that face the camera."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, Colour, grey, random_colour


class _Figure:
    """Draws in metres around a foot point; x may be foreshortened by the heading."""

    def __init__(self, canvas: Canvas, frame: Frame, squeeze: float) -> None:
        self.canvas, self.scale = canvas, frame.scale
        self.x, self.y = frame.foot
        self.squeeze = squeeze

    def at(self, points: list) -> np.ndarray:
        metres = np.asarray(points, float) * [self.squeeze, -1]
        return metres * self.scale + [self.x, self.y]

    def limb(self, points: list, width: float, colour: Colour, label: int | None) -> None:
        self.canvas.lines(self.at(points)[None], width * self.scale, colour, label)

    def shape(self, points: list, colour: Colour, label: int | None) -> None:
        self.canvas.polygon(self.at(points), colour, label)

    def ball(self, x: float, y: float, radius: float, colour: Colour, label: int | None) -> None:
        ((px, py),) = self.at([[x, y]])
        self.canvas.disc(px, py, radius * self.scale, colour, label)

    def wheel(self, x: float, radius: float, width: float, label: int) -> None:
        """Draw a wheel: its whole disc is labelled, only its rim is painted."""
        angle = np.linspace(0, 2 * np.pi, 17)
        rim = np.stack([x + radius * np.cos(angle), radius + radius * np.sin(angle)], axis=-1)
        least = 0.5 * width / max(abs(self.squeeze) * radius, 1e-3)  # a tyre seen from behind
        rim[:, 0] = x + (rim[:, 0] - x) * max(1.0, least)
        self.canvas.stencil(self.at(rim), label)
        self.limb(rim, width, grey(25), label)


def _skin(rng: np.random.Generator) -> Colour:
    return np.array([120.0, 150, 195]) * rng.uniform(0.4, 1.1)


def draw_person(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, label: int = labels.PERSON
) -> None:
    """Draw somebody standing or walking."""
    height = rng.uniform(1.05, 1.25) if rng.random() < 0.12 else rng.uniform(1.5, 1.92)
    k = height / 1.75
    figure = _Figure(canvas, frame, 1.0)
    shirt, trousers = (
        random_colour(rng, (0, 0.8), (0.08, 0.95)),
        random_colour(rng, (0, 0.5), (0.06, 0.6)),
    )
    skin, hair = _skin(rng), grey(rng.uniform(15, 120)) * [0.7, 0.85, 1]
    stride, swing = rng.uniform(-0.3, 0.3), rng.uniform(-0.25, 0.25)
    build = rng.uniform(0.85, 1.2)
    for foot, tone in ((-stride, 0.8), (stride, 1.0)):
        figure.limb(
            [[0.05 * np.sign(foot), 0.88 * k], [0.6 * foot, 0.45 * k], [foot, 0.04]],
            0.15 * build,
            trousers * tone,
            label,
        )
        figure.limb([[foot, 0.04], [foot + 0.1 * np.sign(stride), 0.04]], 0.09, grey(25), label)
    figure.limb(
        [[0.15 * build, 1.38 * k], [0.2 + swing, 1.1 * k], [0.15 + 1.4 * swing, 0.85 * k]],
        0.1,
        shirt * 0.85,
        label,
    )
    hem = 0.5 * k if rng.random() < 0.3 else 0.85 * k
    torso = [
        [-0.22 * build, 1.42 * k],
        [0.22 * build, 1.42 * k],
        [0.19 * build, 0.9 * k],
        [0.21 * build, hem],
        [-0.21 * build, hem],
        [-0.19 * build, 0.9 * k],
    ]
    figure.shape(torso, shirt, label)
    figure.limb(
        [[-0.19 * build, 1.38 * k], [-0.22 - swing, 1.1 * k], [-0.17 - 1.4 * swing, 0.85 * k]],
        0.1,
        shirt * 0.92,
        label,
    )
    figure.ball(-0.17 - 1.4 * swing, 0.83 * k, 0.05, skin, label)
    figure.limb([[0, 1.42 * k], [0, 1.55 * k]], 0.1, skin, label)
    figure.ball(0, 1.63 * k, 0.115, hair, label)
    if rng.random() < 0.6:
        figure.ball(0.03 * np.sign(stride), 1.61 * k, 0.085, skin, None)
    if rng.random() < 0.3:
        bag = random_colour(rng, (0, 0.9), (0.1, 0.8))
        side = rng.choice([-1, 1]) * 0.26
        figure.shape(
            [
                [side - 0.1, 1.0 * k],
                [side + 0.1, 1.0 * k],
                [side + 0.12, 0.65 * k],
                [side - 0.12, 0.65 * k],
            ],
            bag,
            label,
        )


def draw_bicycle(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, squeeze: float, ridden: bool
) -> None:
    """Draw a bicycle seen at an angle, with its rider if `ridden`.

    Args:
        rng: Source of its looks.
        canvas: Drawn on.
        frame: Where it stands.
        squeeze: Foreshortening of its length, -1 to 1; small when seen from behind.
        ridden: Whether somebody sits on it.
    """
    figure = _Figure(canvas, frame, squeeze)
    paint = random_colour(rng, (0, 1), (0.1, 0.9))
    label = labels.BICYCLE
    figure.wheel(-0.52, 0.34, 0.06, label)
    figure.wheel(0.52, 0.34, 0.06, label)
    pedal, seat, bar, axle = [-0.05, 0.3], [-0.2, 0.85], [0.38, 0.95], [0.52, 0.34]
    figure.canvas.stencil(figure.at([[-0.52, 0.34], seat, bar, axle, pedal]), label)
    for a, b in (
        (pedal, seat),
        (pedal, bar),
        (seat, bar),
        (bar, axle),
        ([-0.52, 0.34], seat),
        ([-0.52, 0.34], pedal),
    ):
        figure.limb([a, b], 0.055, paint, label)
    figure.limb([[-0.32, 0.92], [-0.1, 0.92]], 0.08, grey(25), label)
    grip = 0.25 / max(abs(squeeze), 0.3)
    figure.limb([[0.38 - 0.3 * grip, 1.02], [0.38 + 0.3 * grip, 1.02]], 0.05, grey(40), label)
    if ridden:
        _draw_rider(rng, figure, seat_height=0.95, lean=rng.uniform(0.1, 0.4), bar=(0.38, 1.02))


def draw_motorcycle(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, squeeze: float, ridden: bool
) -> None:
    """Draw a motorcycle or a scooter seen at an angle, with its rider if `ridden`."""
    figure = _Figure(canvas, frame, squeeze)
    paint = random_colour(rng, (0, 1), (0.05, 0.9))
    label = labels.MOTORCYCLE
    figure.wheel(-0.65, 0.3, 0.16, label)
    figure.wheel(0.68, 0.3, 0.16, label)
    bulk = 0.18 / max(abs(squeeze), 0.15)
    body = [
        [-0.75 - bulk, 0.75],
        [-0.1, 0.8],
        [0.35, 1.0],
        [0.55 + bulk, 0.85],
        [0.4, 0.35],
        [-0.4, 0.25],
        [-0.6 - bulk, 0.5],
    ]
    figure.shape(body, paint, label)
    figure.shape(
        [[-0.35, 0.3], [0.3, 0.3], [0.2, 0.6], [-0.3, 0.6]], grey(rng.uniform(30, 110)), label
    )
    figure.limb([[0.68, 0.3], [0.45, 1.05]], 0.09, grey(110), label)
    figure.limb([[-0.7, 0.82], [0.1, 0.85]], 0.14, grey(25), label)
    figure.limb([[0.42 - bulk, 1.08], [0.42 + bulk, 1.08]], 0.06, grey(35), label)
    figure.ball(0.6, 0.9, 0.1, np.array([220.0, 235, 240]), label)
    if not ridden:
        return
    _draw_rider(rng, figure, seat_height=0.85, lean=rng.uniform(0.1, 0.3), bar=(0.42, 1.08))


def _draw_rider(
    rng: np.random.Generator,
    figure: _Figure,
    seat_height: float,
    lean: float,
    bar: tuple[float, float],
) -> None:
    jacket, trousers = (
        random_colour(rng, (0, 0.9), (0.08, 0.95)),
        random_colour(rng, (0, 0.5), (0.06, 0.6)),
    )
    label = labels.RIDER
    hip, shoulder = [-0.2, seat_height + 0.05], [-0.2 + lean, seat_height + 0.58]
    thin = max(abs(figure.squeeze), 0.3)
    for knee in (0.2, 0.28):
        figure.limb([hip, [knee, 0.68], [0.0, 0.22]], 0.15, trousers * (1.3 - knee), label)
    width = 0.36 if thin < 0.6 else 0.28
    figure.limb(
        [hip, [hip[0] * 0.6 + shoulder[0] * 0.4, seat_height + 0.3], shoulder], width, jacket, label
    )
    figure.limb(
        [[shoulder[0], shoulder[1] - 0.06], [0.15, seat_height + 0.25], bar],
        0.1,
        jacket * 0.85,
        label,
    )
    head = [shoulder[0] + 0.06, shoulder[1] + 0.26]
    figure.limb([shoulder, head], 0.1, _skin(rng), label)
    figure.ball(*head, 0.125, random_colour(rng, (0, 0.9), (0.05, 0.95)), label)
    if rng.random() < 0.7:
        figure.ball(head[0] + 0.03 / thin, head[1] - 0.04, 0.07, _skin(rng), None)
