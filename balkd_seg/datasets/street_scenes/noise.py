"""Noise textures that tile."""

from functools import cache

import cv2
import numpy as np

TILE = 256  # pixels of a tile's side; a power of two


def noise_tile(rng: np.random.Generator, persistence: float) -> np.ndarray:
    """Return a (256, 256) float32 tile of zero mean and unit deviation, shifted at random.

    Args:
        rng: Source of the shift and of the choice among a few tiles.
        persistence: Weight of an octave against the one twice as coarse; small is smooth.
    """
    tile = _tile(int(rng.integers(4)), persistence)
    shift = rng.integers(0, TILE, 2)
    return np.roll(tile, (int(shift[0]), int(shift[1])), (0, 1))


@cache
def _tile(number: int, persistence: float) -> np.ndarray:
    rng = np.random.default_rng(number)
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(3, 9):
        cells = rng.standard_normal((1 << octave, 1 << octave)).astype(np.float32)
        wrapped = np.pad(cells, 1, mode='wrap')
        grid = (np.arange(TILE, dtype=np.float32) + 0.5) * (1 << octave) / TILE + 0.5
        rows, columns = np.meshgrid(grid, grid, indexing='ij')
        total += persistence**octave * cv2.remap(wrapped, columns, rows, cv2.INTER_LINEAR)
    total -= total.mean()
    return total / total.std()
