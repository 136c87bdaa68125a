"""From drawn colours to a photograph: light, glare, lens, sensor, and the car's own bonnet."""

import cv2
import numpy as np

from . import labels
from .canvas import SUPERSAMPLING, Canvas, random_colour
from .noise import noise_tile
from .street import Light


def finish(rng: np.random.Generator, canvas: Canvas, light: Light) -> tuple[np.ndarray, np.ndarray]:
    """Turn the canvas into the final pair.

    Returns:
        Image (H, W, 3) uint8 BGR and label (H, W) uint8.
    """
    size = canvas.width, canvas.height
    small = cv2.resize(canvas.image, size, interpolation=cv2.INTER_AREA)
    image: np.ndarray = small.astype(np.float32)
    label = np.ascontiguousarray(canvas.label[::SUPERSAMPLING, ::SUPERSAMPLING])
    gain = _surface(rng, label) * _vignette(rng, size)
    image *= gain[..., None] * (light.exposure * light.tint).astype(np.float32)
    _add_glows(image, canvas, light)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.9))
    contrast, middle = rng.uniform(0.85, 1.15), 110 * light.exposure
    image = image * contrast + (middle * (1 - contrast) + rng.normal(0, 4))
    image += _sensor_noise(rng, size)
    return np.clip(image, 0, 255).astype(np.uint8), label


def _sensor_noise(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W, 3) noise: a fine one of the brightness and a coarser one of the colour."""
    width, height = size
    strength = np.float32(rng.uniform(1.5, 7))
    grey_noise = strength * rng.standard_normal((height, width, 1), np.float32)
    coarse = 0.7 * strength * rng.standard_normal((height // 2, width // 2, 3), np.float32)
    return grey_noise + cv2.resize(coarse, size)


def draw_bonnet(rng: np.random.Generator, canvas: Canvas, light: Light) -> None:
    """Draw the car that carries the camera along the lower edge; its label is ignored."""
    canvas.set_depth(0.0)
    x = np.linspace(-0.05, 1.05, 24)
    rise = rng.uniform(0.03, 0.11) * canvas.height
    middle = rng.uniform(0.45, 0.55)
    colour = random_colour(rng, (0, 0.6), (0.05, 0.8))
    for step, tone in ((1.0, 0.8), (0.85, 1.0), (0.6, 1.15), (0.3, 0.9)):
        y = canvas.height - rise * step * np.clip(1.1 - (2 * (x - middle)) ** 4, 0, None)
        edge = np.stack([x * canvas.width, y], axis=-1)
        corners = [
            [1.05 * canvas.width, canvas.height + 2],
            [-0.05 * canvas.width, canvas.height + 2],
        ]
        paint = 0.6 * colour * tone + 0.25 * light.skyline * (1.2 - tone)
        canvas.polygon(np.concatenate([edge, corners]), paint, labels.IGNORE)


def _surface(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """Return brightness factors: every surface is a little uneven, the sky is not."""
    height, width = label.shape
    tile = noise_tile(rng, 0.95)
    rows = -(-height // len(tile))
    columns = -(-width // len(tile))
    field = np.tile(tile, (rows, columns))[:height, :width]
    strength = np.full(256, rng.uniform(0.02, 0.07), np.float32)
    strength[labels.VEGETATION] = rng.uniform(0.05, 0.14)
    strength[labels.SKY] = 0.0
    return 1 + strength[label] * field


def _add_glows(image: np.ndarray, canvas: Canvas, light: Light) -> None:
    if not canvas.glows:
        return
    scale = 4
    shine: np.ndarray = np.zeros(
        (canvas.height // scale + 1, canvas.width // scale + 1, 3), np.float32
    )
    for x, y, radius, colour in canvas.glows:
        centre = (int(np.clip(x / scale, -999, 9999)), int(np.clip(y / scale, -999, 9999)))
        size = int(np.clip(radius / scale, 1, 60))
        cv2.circle(shine, centre, size, tuple(0.45 * float(c) for c in colour), -1)
    shine = cv2.GaussianBlur(shine, (0, 0), 2.0)
    strength = 1.0 if light.lamps else 0.35
    image += strength * cv2.resize(shine, (canvas.width, canvas.height))


def _vignette(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return 1 - np.float32(rng.uniform(0, 0.18)) * (x * x + y * y)
