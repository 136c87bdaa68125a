"""A pinhole camera on a flat street, and frames of reference for what stands in it.

World axes: X to the right, `up` above the ground, Z ahead of the camera, all in metres.
"""

import math
from dataclasses import dataclass

import numpy as np

NEAR = 0.7  # metres; nothing is projected from closer than this


@dataclass(frozen=True)
class Camera:
    """Pinhole camera looking along Z.

    Attributes:
        focal: Focal length in pixels.
        centre: Column of the vanishing point in pixels.
        horizon: Row of the horizon in pixels.
        height: Height above the ground in metres.
    """

    focal: float
    centre: float
    horizon: float
    height: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) world points (X, up, Z) to (..., 2) pixels (x, y)."""
        scale = self.focal / np.maximum(points[..., 2], NEAR)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.centre + points[..., 0] * scale
        pixels[..., 1] = self.horizon + (self.height - points[..., 1]) * scale
        return pixels


@dataclass(frozen=True)
class Frame:
    """Where an object stands and which way it faces.

    Attributes:
        camera: The camera that sees it.
        x: World X of its origin, metres.
        z: World Z of its origin, metres.
        angle: Heading, radians; 0 looks away from the camera, pi/2 to the right.
    """

    camera: Camera
    x: float
    z: float
    angle: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) local points (along, across, up) to (..., 2) pixels.

        `along` is the heading, `across` points to the object's right.
        """
        return self.camera.project(self.to_world(points))

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Map (..., 3) local points (along, across, up) to world points (X, up, Z)."""
        along, across = points[..., 0], points[..., 1]
        sin, cos = math.sin(self.angle), math.cos(self.angle)
        world = np.empty(points.shape)
        world[..., 0] = self.x + along * sin + across * cos
        world[..., 1] = points[..., 2]
        world[..., 2] = self.z + along * cos - across * sin
        return world

    def eye(self) -> tuple[float, float, float]:
        """Return the camera's position in local coordinates (along, across, up)."""
        sin, cos = math.sin(self.angle), math.cos(self.angle)
        return (
            -self.x * sin - self.z * cos,
            -self.x * cos + self.z * sin,
            self.camera.height,
        )

    @property
    def foot(self) -> tuple[float, float]:
        """Pixel at which the origin touches the ground."""
        camera = self.camera
        return camera.centre + self.x * self.scale, camera.horizon + camera.height * self.scale

    @property
    def scale(self) -> float:
        """Pixels of a metre at the origin."""
        return self.camera.focal / max(self.z, NEAR)
