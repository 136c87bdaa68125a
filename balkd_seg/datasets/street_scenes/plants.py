"""Trees, bushes and hedges, made of many blobs of leaves."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, Colour, jitter
from .street import Light


def draw_foliage(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, up: float, radius: float, colour: Colour
) -> None:
    """Draw a ball of leaves.

    Args:
        rng: Source of its shape.
        canvas: Drawn on.
        frame: Where it stands.
        up: Height of its centre above the ground, metres.
        radius: Its radius, metres.
        colour: Mean colour of its leaves.
    """
    x, y = frame.foot
    y -= up * frame.scale
    size = radius * frame.scale
    if x + 1.3 * size < 0 or x - 1.3 * size > canvas.width:
        return
    count = int(np.clip(size * size / 18, 6, 75))
    angle, distance = rng.uniform(0, 2 * np.pi, count), np.sort(np.sqrt(rng.uniform(0, 1, count)))
    offsets = (distance * np.stack([np.cos(angle), np.sin(angle)]))[:, ::-1].T
    radii = size * rng.uniform(0.13, 0.38, count) * min(1.6, 1 + 4 / max(size, 1))
    light = 0.8 - 0.35 * offsets[:, 1] + 0.16 * rng.normal(size=count)
    canvas.discs(offsets * size + [x, y], radii, light[:, None] * colour, labels.VEGETATION)


def draw_tree(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a trunk with a crown of a few overlapping balls of leaves."""
    height = rng.uniform(4, 12)
    girth = rng.uniform(0.12, 0.4)
    crown = height * rng.uniform(0.2, 0.36)
    bark = np.array([45.0, 60, 75]) * rng.uniform(0.5, 1.5)
    x, y = frame.foot
    lean = rng.normal(0, 0.03) * height * frame.scale
    trunk = np.array([[[x, y], [x + lean, y - 0.75 * height * frame.scale]]])
    canvas.lines(trunk, girth * frame.scale, bark, labels.VEGETATION)
    season = rng.choice(['summer', 'autumn'], p=[0.8, 0.2])
    leaves = {'summer': np.array([40.0, 85, 60]), 'autumn': np.array([35.0, 95, 140])}[season]
    colour = jitter(rng, leaves, 0.25) * (0.9 + 0.3 * light.direct)
    conifer = rng.random() < 0.2
    for step in np.linspace(0, 1, 3 if conifer else 2):
        radius = crown * ((1.1 - 0.75 * step) if conifer else rng.uniform(0.7, 1.0))
        up = height * (0.45 + 0.45 * step) if conifer else height - crown * rng.uniform(0.7, 1.7)
        draw_foliage(rng, canvas, frame, up, radius, colour)


def draw_bush(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Draw a low bush."""
    radius = rng.uniform(0.4, 1.0)
    colour = np.array([45.0, 90, 65]) * rng.uniform(0.6, 1.4)
    draw_foliage(rng, canvas, frame, radius, radius, colour)
