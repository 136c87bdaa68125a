"""People on foot and on two wheels."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, Colour, grey, random_colour
from .figure import Figure


def _skin(rng: np.random.Generator) -> Colour:
    return np.array([120.0, 150, 195]) * rng.uniform(0.4, 1.1)


def _clothes(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return the colours of what is worn above and below the belt."""
    return random_colour(rng, (0, 0.85), (0.08, 0.95)), random_colour(rng, (0, 0.5), (0.06, 0.6))


def draw_person(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw somebody standing or walking: an adult, or now and then a child."""
    height = rng.uniform(1.05, 1.25) if rng.random() < 0.12 else rng.uniform(1.5, 1.92)
    k = height / 1.75
    figure, label = Figure(canvas, frame), labels.PERSON
    build = rng.uniform(0.85, 1.2)
    shirt, trousers = _clothes(rng)
    skin = _skin(rng)
    swing = rng.uniform(-0.25, 0.25)
    stride = _draw_legs(rng, figure, k, build, trousers)
    hem = 0.5 * k if rng.random() < 0.3 else 0.85 * k

    far_arm = [[0.15 * build, 1.38 * k], [0.2 + swing, 1.1 * k], [0.15 + 1.4 * swing, 0.85 * k]]
    near_arm = [
        [-0.19 * build, 1.38 * k],
        [-0.22 - swing, 1.1 * k],
        [-0.17 - 1.4 * swing, 0.85 * k],
    ]
    right = np.array([[0.22 * build, 1.42 * k], [0.19 * build, 0.9 * k], [0.21 * build, hem]])
    figure.limb(far_arm, 0.1, shirt * 0.85, label)
    figure.shape([*right, *(right * [-1, 1])[::-1]], shirt, label)
    figure.limb(near_arm, 0.1, shirt * 0.92, label)
    figure.ball(near_arm[-1], 0.05, skin, label)
    figure.limb([[0, 1.42 * k], [0, 1.55 * k]], 0.1, skin, label)
    figure.ball([0, 1.63 * k], 0.115, grey(rng.uniform(15, 120)) * [0.7, 0.85, 1], label)
    if rng.random() < 0.6:
        figure.ball([0.03 * np.sign(stride), 1.61 * k], 0.085, skin, None)
    if rng.random() < 0.3:
        side = rng.choice([-1, 1]) * 0.26
        bag = np.array([[-0.1, 1.0], [0.1, 1.0], [0.12, 0.65], [-0.12, 0.65]]) * [1, k]
        figure.shape(bag + np.array([side, 0]), random_colour(rng, (0, 0.9), (0.1, 0.8)), label)


def _draw_legs(
    rng: np.random.Generator, figure: Figure, k: float, build: float, trousers: Colour
) -> float:
    """Draw both legs and return the stride, metres to the right."""
    stride = rng.uniform(-0.3, 0.3)
    for foot, tone in ((-stride, 0.8), (stride, 1.0)):
        leg = [[0.05 * np.sign(foot), 0.88 * k], [0.6 * foot, 0.45 * k], [foot, 0.04]]
        figure.limb(leg, 0.15 * build, trousers * tone, labels.PERSON)
        shoe = [[foot, 0.04], [foot + 0.1 * np.sign(stride), 0.04]]
        figure.limb(shoe, 0.09, grey(25), labels.PERSON)
    return stride


def draw_rider(
    rng: np.random.Generator, figure: Figure, seat: float, lean: float, bar: tuple[float, float]
) -> None:
    """Draw the rider of a two-wheeler.

    Args:
        rng: Source of the looks.
        figure: The two-wheeler's own figure.
        seat: Height of the seat, metres.
        lean: How far the shoulders lie before the hip, metres.
        bar: Where the hands are (x, up), metres.
    """
    jacket, trousers = _clothes(rng)
    label = labels.RIDER
    hip, shoulder = np.array([-0.2, seat + 0.05]), np.array([-0.2 + lean, seat + 0.58])
    thin = max(abs(figure.squeeze), 0.3)
    for knee in (0.2, 0.28):
        figure.limb([hip, [knee, 0.68], [0.0, 0.22]], 0.15, trousers * (1.3 - knee), label)
    figure.limb([hip, shoulder], 0.36 if thin < 0.6 else 0.28, jacket, label)
    arm = [shoulder - [0, 0.06], [0.15, seat + 0.25], bar]
    figure.limb(arm, 0.1, jacket * 0.85, label)
    head = shoulder + np.array([0.06, 0.26])
    figure.limb([shoulder, head], 0.1, _skin(rng), label)
    figure.ball(head, 0.125, random_colour(rng, (0, 0.9), (0.05, 0.95)), label)
    if rng.random() < 0.7:
        figure.ball(head + np.array([0.03 / thin, -0.04]), 0.07, _skin(rng), None)
