"""Bicycles and motorcycles, parked or ridden."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, grey, random_colour
from .figure import Figure
from .people import draw_rider


def draw_bicycle(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, squeeze: float, ridden: bool
) -> None:
    """Draw a bicycle.

    Args:
        rng: Source of its looks.
        canvas: Drawn on.
        frame: Where it stands.
        squeeze: Foreshortening of its length, -1 to 1: 1 from the side, near 0 from behind.
        ridden: Whether somebody sits on it.
    """
    figure, label = Figure(canvas, frame, squeeze), labels.BICYCLE
    paint = random_colour(rng, (0, 1), (0.1, 0.9))
    rear, front, pedal = [-0.52, 0.34], [0.52, 0.34], [-0.05, 0.3]
    seat, bar = [-0.2, 0.85], [0.38, 0.95]
    for x, up in (rear, front):
        figure.wheel(x, up, 0.06, label)
    canvas.stencil(figure.at([rear, seat, bar, front, pedal]), label)
    for tube in ([rear, seat, bar, front], [rear, pedal, seat], [pedal, bar]):
        figure.limb(tube, 0.055, paint, label)
    figure.limb([[-0.32, 0.92], [-0.1, 0.92]], 0.08, grey(25), label)
    grip = 0.075 / max(abs(squeeze), 0.3)
    figure.limb([[0.38 - grip, 1.02], [0.38 + grip, 1.02]], 0.05, grey(40), label)
    if ridden:
        draw_rider(rng, figure, 0.95, rng.uniform(0.1, 0.4), (0.38, 1.02))


def draw_motorcycle(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, squeeze: float, ridden: bool
) -> None:
    """Draw a motorcycle or a scooter; for the arguments see `draw_bicycle`."""
    figure, label = Figure(canvas, frame, squeeze), labels.MOTORCYCLE
    paint = random_colour(rng, (0, 1), (0.05, 0.9))
    for x in (-0.65, 0.68):
        figure.wheel(x, 0.3, 0.16, label)
    bulk = 0.18 / max(abs(squeeze), 0.15)  # its width shows when it is seen from behind
    tail, nose = -0.75 - bulk, 0.55 + bulk
    body = [[tail, 0.75], [-0.1, 0.8], [0.35, 1.0], [nose, 0.85], [0.4, 0.35], [-0.4, 0.25]]
    figure.shape([*body, [tail + 0.15, 0.5]], paint, label)
    engine = [[-0.35, 0.3], [0.3, 0.3], [0.2, 0.6], [-0.3, 0.6]]
    figure.shape(engine, grey(rng.uniform(30, 110)), label)
    figure.limb([[0.68, 0.3], [0.45, 1.05]], 0.09, grey(110), label)
    figure.limb([[-0.7, 0.82], [0.1, 0.85]], 0.14, grey(25), label)
    figure.limb([[0.42 - bulk, 1.08], [0.42 + bulk, 1.08]], 0.06, grey(35), label)
    figure.ball([0.6, 0.9], 0.1, np.array([220.0, 235, 240]), label)
    if ridden:
        draw_rider(rng, figure, 0.85, rng.uniform(0.1, 0.3), (0.42, 1.08))
