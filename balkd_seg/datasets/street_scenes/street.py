"""What one scene is made of before anything is drawn: light, road, camera."""

from dataclasses import dataclass

import numpy as np

from .camera import Camera, Frame
from .canvas import Colour, grey, random_colour

FAR = 140.0  # metres; the street ends here


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    Attributes:
        zenith: Colour of the sky above, BGR.
        skyline: Colour of the sky at the horizon and of the haze, BGR.
        sun: Direction to the sun, unit vector (X, up, Z).
        direct: Share of the light that comes from the sun, 0 (overcast) to 1.
        exposure: Final brightness, 1 by day.
        tint: Colour of the light, BGR around 1.
        visibility: Metres at which haze takes 63 % of a colour.
        lamps: Whether lamps and windows are lit.
    """

    zenith: Colour
    skyline: Colour
    sun: np.ndarray
    direct: float
    exposure: float
    tint: np.ndarray
    visibility: float
    lamps: bool

    def shade(self, normal: np.ndarray) -> float:
        """Return the brightness of a surface with this world normal (X, up, Z)."""
        return float(0.72 + 0.13 * normal[1] + 0.4 * self.direct * max(0.0, normal @ self.sun))


@dataclass(frozen=True)
class Street:
    """A road with what lies beside it, in road coordinates: u metres right of its middle.

    Attributes:
        camera: The camera; it stands at X = 0, u = `offset`.
        light: Time of day and weather.
        offset: Lateral position of the camera on the road.
        slope: Heading of the road against the camera's axis, tangent.
        curvature: Curvature of the road, 1/metres.
        lanes: Edges of the driving lanes, ascending u.
        kerbs: u of the left and the right kerb; parking lies between lanes and kerbs.
        verges: Width of the grass beside the left and right kerb, 0 for none.
        fronts: u of the left and right frontage (buildings, walls, hedges).
        crossing: Near and far end of a crossing street in metres, or None.
        track: u of a tram track, or None.
    """

    camera: Camera
    light: Light
    offset: float
    slope: float
    curvature: float
    lanes: tuple[float, ...]
    kerbs: tuple[float, float]
    verges: tuple[float, float]
    fronts: tuple[float, float]
    crossing: tuple[float, float] | None
    track: float | None

    def middle(self, z: np.ndarray) -> np.ndarray:
        """Return the world X of the road's middle at distance z."""
        return self.slope * z + 0.5 * self.curvature * z * z - self.offset

    def frame(self, u: float, z: float, turn: float = 0.0) -> Frame:
        """Return the frame of an object at (u, z), turned against the road by `turn` radians."""
        heading = float(np.arctan(self.slope + self.curvature * z))
        return Frame(self.camera, float(self.middle(np.asarray(z))) + u, z, heading + turn)

    def points(self, u: np.ndarray | float, up: np.ndarray | float, z: np.ndarray) -> np.ndarray:
        """Project points given in road coordinates to pixels, (..., 2)."""
        shape = np.broadcast_shapes(np.shape(u), np.shape(up), z.shape)
        world = np.empty((*shape, 3))
        world[..., 0] = self.middle(z) + u
        world[..., 1] = up
        world[..., 2] = z
        return self.camera.project(world)


def random_light(rng: np.random.Generator) -> Light:
    """Draw day, overcast, dusk or night."""
    kind = rng.choice(['day', 'overcast', 'dusk', 'night'], p=[0.42, 0.3, 0.18, 0.1])
    azimuth = rng.uniform(0, 2 * np.pi)
    height = rng.uniform(0.3, 1.2) if kind == 'day' else rng.uniform(0.1, 0.4)
    sun = np.array(
        [np.cos(height) * np.cos(azimuth), np.sin(height), np.cos(height) * np.sin(azimuth)]
    )
    if kind == 'day':
        zenith = np.array([rng.uniform(170, 235), rng.uniform(120, 180), rng.uniform(60, 130)])
        skyline = np.array([225, 215, 205]) + rng.normal(0, 12, 3)
        values = (rng.uniform(0.6, 1), rng.uniform(0.85, 1.15), [0.95, 1, 1.05], (90, 500))
    elif kind == 'overcast':
        zenith = grey(rng.uniform(130, 215)) + rng.normal(0, 6, 3)
        skyline = zenith + rng.uniform(0, 35)
        values = (rng.uniform(0, 0.15), rng.uniform(0.7, 1.05), [1.04, 1, 0.97], (50, 250))
    elif kind == 'dusk':
        zenith = np.array([rng.uniform(110, 190), rng.uniform(90, 130), rng.uniform(80, 130)])
        skyline = np.array([rng.uniform(90, 180), rng.uniform(140, 190), rng.uniform(190, 245)])
        values = (rng.uniform(0.2, 0.7), rng.uniform(0.5, 0.8), [0.9, 1, 1.12], (80, 300))
    else:
        zenith = np.array([rng.uniform(45, 80), rng.uniform(30, 55), rng.uniform(25, 50)])
        skyline = zenith * rng.uniform(1.2, 2.0)
        values = (0.0, rng.uniform(0.35, 0.5), [1.05, 1, 1.02], (80, 250))
    direct, exposure, tint, visibility = values
    return Light(
        zenith, skyline, sun, direct, exposure, np.array(tint) + rng.normal(0, 0.03, 3),
        rng.uniform(*visibility), bool(kind == 'night' or (kind == 'dusk' and rng.random() < 0.5)),
    )  # fmt: skip


def random_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """Draw a camera for an image of this width and height."""
    width, height = size
    return Camera(
        focal=rng.uniform(0.75, 1.05) * max(width, 1.5 * height),
        centre=width * rng.uniform(0.44, 0.56),
        horizon=height * rng.uniform(0.37, 0.47),
        height=rng.uniform(1.2, 1.8),
    )


def random_street(rng: np.random.Generator, size: tuple[int, int]) -> Street:
    """Draw a street for an image of this width and height."""
    lane = rng.uniform(2.8, 3.6)
    left, right = int(rng.choice([1, 1, 2])), int(rng.choice([1, 1, 2]))
    lanes = tuple(lane * (k - left) for k in range(left + right + 1))
    parking = rng.choice([0.3, 2.3], size=2, p=[0.4, 0.6])
    kerbs = (lanes[0] - parking[0], lanes[-1] + parking[1])
    verges = rng.choice([0.0, 1.0], size=2, p=[0.7, 0.3]) * rng.uniform(1, 3.5, 2)
    walks = rng.uniform(2.2, 5.5, 2) + rng.choice([0, 5], size=2, p=[0.8, 0.2])
    fronts = (kerbs[0] - verges[0] - walks[0], kerbs[1] + verges[1] + walks[1])
    start = rng.uniform(14, 55)
    return Street(
        camera=random_camera(rng, size),
        light=random_light(rng),
        offset=lane * (int(rng.integers(right)) + 0.5) + rng.normal(0, 0.25),
        slope=rng.normal(0, 0.03),
        curvature=rng.normal(0, 0.0016),
        lanes=lanes,
        kerbs=kerbs,
        verges=(float(verges[0]), float(verges[1])),
        fronts=fronts,
        crossing=(start, start + rng.uniform(7, 12)) if rng.random() < 0.6 else None,
        track=lanes[left] - lane / 2 if rng.random() < 0.3 else None,
    )


def road_colour(rng: np.random.Generator) -> Colour:
    """Draw the colour of asphalt, concrete or stone."""
    return grey(rng.uniform(55, 150)) + random_colour(rng, (0, 0.3), (0, 0.12)) - 10
