"""A whole street scene."""

import numpy as np

from .backdrop import draw_sky, draw_skyline
from .canvas import Canvas
from .ground import draw_ground
from .photometry import draw_bonnet, finish
from .roadside import place_frontage, place_kerbside
from .stage import Stage
from .street import random_street
from .traffic import place_driving, place_junction, place_parked, place_people


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int] = (512, 256)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street scene and its label.

    Args:
        rng: All randomness of the scene; the same state gives the same scene.
        size: Width and height in pixels.

    Returns:
        Image (H, W, 3) uint8 BGR, and label (H, W) uint8: the 19 train classes of Cityscapes,
        255 to be ignored.

    Example:
        >>> image, label = draw_scene(np.random.default_rng(0), (128, 64))
        >>> image.shape, label.shape
        ((64, 128, 3), (64, 128))
    """
    street = random_street(rng, size)
    canvas = Canvas(size, street.light.skyline, street.light.visibility)
    draw_sky(rng, canvas, street)
    draw_skyline(rng, canvas, street)
    draw_ground(rng, canvas, street)
    stage = Stage(rng, canvas, street)
    for place in (
        place_frontage,
        place_kerbside,
        place_driving,
        place_parked,
        place_people,
        place_junction,
    ):
        place(stage)
    stage.play()
    if rng.random() < 0.6:
        draw_bonnet(rng, canvas, street.light)
    return finish(rng, canvas, street.light)
