"""What lies behind everything: sky with clouds, and the skyline at the end of the street."""

import cv2
import numpy as np

from . import labels
from .canvas import Canvas, grey, jitter, random_colour
from .noise import noise_tile
from .street import Street


def draw_sky(rng: np.random.Generator, canvas: Canvas, street: Street) -> None:
    """Fill the whole canvas with a gradient from zenith to skyline, and clouds."""
    light = street.light
    height, width = canvas.height // 2, canvas.width // 2
    ramp = np.clip(2 * np.arange(height) / max(street.camera.horizon, 1), 0, 1) ** 1.3
    ramp = ramp[:, None, None].astype(np.float32)
    sky = (light.zenith * (1 - ramp) + light.skyline * ramp).astype(np.float32)
    tile = cv2.resize(noise_tile(rng, 0.5), (width, height), interpolation=cv2.INTER_LINEAR)
    cover = rng.uniform(0.2, 2.2)
    cloud = np.clip((tile + cover - 1.4) * rng.uniform(0.2, 0.7), 0, 0.85)[..., None]
    white = np.minimum(light.skyline * 1.1 + 12, 255) * rng.uniform(0.75, 1.05)
    sky = np.clip(sky * (1 - cloud) + white.astype(np.float32) * cloud, 0, 255).astype(np.uint8)
    size = canvas.image.shape[1::-1]
    canvas.image[:] = cv2.resize(sky, size, interpolation=cv2.INTER_LINEAR)
    canvas.label[:] = labels.SKY


def draw_skyline(rng: np.random.Generator, canvas: Canvas, street: Street) -> None:
    """Draw far houses and trees along the horizon."""
    canvas.set_depth(110.0)
    base = street.camera.horizon + 1.5
    for _ in range(int(rng.integers(4, 14))):
        x = rng.uniform(0, canvas.width)
        width = canvas.width * rng.uniform(0.02, 0.12)
        height = canvas.height * rng.uniform(0.01, 0.13)
        if rng.random() < 0.5:
            colour = random_colour(rng, (0, 0.35), (0.25, 0.8))
            corners = [[x, base], [x, base - height], [x + width, base - height], [x + width, base]]
            canvas.polygon(np.array(corners), colour, labels.BUILDING)
            rows = np.arange(base - height + 2, base - 2, 4.0)
            if len(rows):
                spans = np.array([[[x + 1, row], [x + width - 1, row]] for row in rows])
                canvas.lines(spans, 0.8, colour * 0.7)
        else:
            colour = jitter(rng, np.array([50.0, 85.0, 65.0]), 0.2)
            for step in np.linspace(0, 1, 8):
                radius = height * rng.uniform(0.25, 0.5)
                canvas.disc(
                    x + step * width, base - radius * rng.uniform(0.6, 1.4), radius,
                    jitter(rng, colour, 0.08), labels.VEGETATION,
                )  # fmt: skip
    band = np.array([[0, base - 2], [canvas.width, base - 2], [canvas.width, base], [0, base]])
    canvas.polygon(band, grey(110), labels.BUILDING)
