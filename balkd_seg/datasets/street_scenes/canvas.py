"""An image and its label drawn together, and the colours they are drawn with."""

import cv2
import numpy as np

SUPERSAMPLING = 2
_SHIFT = 4  # fractional bits of the coordinates handed to OpenCV
_LIMIT = 1 << 14  # pixels; OpenCV wants coordinates far below 2^31

Colour = np.ndarray  # (3,) float BGR, 0 to 255


class Canvas:
    """Image and label under construction, at twice the final size for smooth edges.

    Coordinates are pixels of the final image.

    Args:
        size: Width and height of the final image in pixels.
        haze: Colour of the air, BGR.
        visibility: Distance in metres at which 63 % of a colour has faded.
    """

    def __init__(self, size: tuple[int, int], haze: Colour, visibility: float) -> None:
        self.width, self.height = size
        shape = (self.height * SUPERSAMPLING, self.width * SUPERSAMPLING)
        self.image = np.zeros((*shape, 3), np.uint8)
        self.label = np.full(shape, 255, np.uint8)
        self.haze = haze
        self.visibility = visibility
        self.set_depth(0.0)
        self.glows: list[tuple[float, float, float, Colour]] = []

    def set_depth(self, depth: float) -> None:
        """Say how far away what is drawn next is, in metres: its colours fade into the haze."""
        self._clear = float(np.exp(-depth / self.visibility))
        self._veil = ((1 - self._clear) * self.haze).tolist()

    def polygon(self, points: np.ndarray, colour: Colour, label: int | None = None) -> None:
        """Fill one polygon; without `label` the label below stays.

        Args:
            points: Corners, (N, 2) x and y.
            colour: BGR.
            label: Class of the pixels, or None for a detail of what is there already.
        """
        self.polygons([points], colour, label)

    def polygons(
        self, shapes: list[np.ndarray] | np.ndarray, colour: Colour, label: int | None = None
    ) -> None:
        """Fill many polygons of one colour."""
        if len(shapes) == 0:
            return
        fixed = [_fixed(points) for points in shapes]
        cv2.fillPoly(self.image, fixed, self._ink(colour), cv2.LINE_8, _SHIFT)
        if label is not None:
            cv2.fillPoly(self.label, fixed, label, cv2.LINE_8, _SHIFT)

    def stencil(self, points: np.ndarray, label: int) -> None:
        """Fill one polygon of the label alone: see-through things such as fences."""
        cv2.fillPoly(self.label, [_fixed(points)], label, cv2.LINE_8, _SHIFT)

    def lines(
        self, strokes: np.ndarray, width: float, colour: Colour, label: int | None = None
    ) -> None:
        """Draw polylines with round ends.

        Args:
            strokes: Corners of each line, (K, N, 2).
            width: Thickness in pixels of the final image.
            colour: BGR.
            label: Class of the pixels, or None.
        """
        thickness = max(1, round(width * SUPERSAMPLING))
        fixed = [_fixed(points) for points in strokes]
        cv2.polylines(self.image, fixed, False, self._ink(colour), thickness, cv2.LINE_8, _SHIFT)
        if label is not None:
            cv2.polylines(self.label, fixed, False, label, thickness, cv2.LINE_8, _SHIFT)

    def disc(
        self, x: float, y: float, radius: float, colour: Colour, label: int | None = None
    ) -> None:
        """Fill a circle."""
        centre = (_whole(x), _whole(y))
        size = max(1, _whole(radius))
        cv2.circle(self.image, centre, size, self._ink(colour), -1)
        if label is not None:
            cv2.circle(self.label, centre, size, label, -1)

    def discs(
        self, centres: np.ndarray, radii: np.ndarray, colours: np.ndarray, label: int
    ) -> None:
        """Fill many circles, the first one undermost.

        Args:
            centres: x and y, (K, 2).
            radii: (K,).
            colours: BGR, (K, 3).
            label: Class of the pixels.
        """
        inks = np.clip(colours * self._clear + self._veil, 0, 255).tolist()
        whole = np.clip(centres * SUPERSAMPLING, -_LIMIT, _LIMIT).astype(int).tolist()
        sizes = np.clip(radii * SUPERSAMPLING, 1, _LIMIT).astype(int).tolist()
        for centre, size, ink in zip(whole, sizes, inks, strict=True):
            cv2.circle(self.image, centre, size, ink, -1)
            cv2.circle(self.label, centre, size, label, -1)

    def glow(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Remember a light; `photometry.finish` lets it shine."""
        self.glows.append((x, y, radius, colour))

    def _ink(self, colour: Colour) -> list[float]:
        parts = zip(colour.tolist(), self._veil, strict=True)
        return [min(max(part * self._clear + veil, 0.0), 255.0) for part, veil in parts]


def grey(value: float) -> Colour:
    """Return a neutral colour."""
    return np.full(3, float(value))


def random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Colour:
    """Draw a colour of any hue, with saturation and value (0 to 1) from the given ranges."""
    hue = rng.uniform(0, 6)
    s, v = rng.uniform(*saturation), rng.uniform(*value)
    offsets = (np.array([5.0, 3.0, 1.0]) + hue) % 6
    rgb = v - v * s * np.clip(np.minimum(offsets, 4 - offsets), 0, 1)
    return 255 * rgb[::-1].copy()


def jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """Return a colour nearby: brightness and tint changed by about `amount` (0 to 1)."""
    return colour * (1 + amount * rng.normal()) + 255 * 0.3 * amount * rng.normal(size=3)


def _fixed(points: np.ndarray) -> np.ndarray:
    scaled = points * float(SUPERSAMPLING << _SHIFT)
    limit = _LIMIT << _SHIFT
    return np.minimum(np.maximum(scaled, -limit), limit).astype(np.int32)


def _whole(value: float) -> int:
    return int(min(max(value * SUPERSAMPLING, -_LIMIT), _LIMIT))
