"""The ground: road, kerb, sidewalk, verge and their markings, by inverse perspective."""

import cv2
import numpy as np

from . import labels
from .canvas import SUPERSAMPLING, Canvas, Colour, grey
from .noise import TILE, noise_tile
from .street import Street, road_colour


def draw_ground(rng: np.random.Generator, canvas: Canvas, street: Street) -> None:
    """Fill everything below the horizon."""
    top = int(np.ceil(street.camera.horizon))
    rows = np.arange(top, canvas.height, dtype=np.float32) + 0.5
    z = street.camera.focal * street.camera.height / (rows - street.camera.horizon + 0.3)
    z = z[:, None]  # (rows, 1), broadcasts against u, (rows, columns)
    columns = (
        np.arange(canvas.width, dtype=np.float32) + 0.5 - street.camera.centre
    ) / street.camera.focal
    u = columns * z - street.middle(z)

    zones, zone_labels, colours = _zones(rng, street)
    zone = np.searchsorted(zones, u)
    if street.crossing is not None:
        start, end = street.crossing
        zone[((z > start) & (z < end))[:, 0]] = len(zones) // 2
    label = zone_labels[zone]
    colour = colours[zone]
    road = label == labels.ROAD
    colour *= _texture(rng, u, z, label)[..., None]
    _mark(rng, colour, road, u, z, street)
    colour *= _cast_shadows(rng, u, z, street)[..., None]
    clear = np.exp(-z / canvas.visibility)[..., None]
    colour = colour * clear + canvas.haze * (1 - clear)
    _paste(canvas, np.clip(colour, 0, 255).astype(np.uint8), label, top)


def _zones(rng: np.random.Generator, street: Street) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges between zones (ascending u), their labels and their colours."""
    road, walk = road_colour(rng), road_colour(rng) * rng.uniform(0.9, 1.3)
    grass, yard = _grass(rng), _grass(rng)
    kerb = np.minimum(walk * 1.25, 235)
    side = [labels.TERRAIN, labels.SIDEWALK, labels.TERRAIN, labels.SIDEWALK, labels.SIDEWALK]
    left, right = street.kerbs
    edges = [
        street.fronts[0] - 0.3, left - street.verges[0] - 0.2, left - 0.2, left - 0.2, left,
        right, right + 0.2, right + 0.2, right + street.verges[1] + 0.2, street.fronts[1] + 0.3,
    ]  # fmt: skip
    side = [labels.TERRAIN, labels.SIDEWALK, labels.TERRAIN, labels.SIDEWALK, labels.SIDEWALK]
    side_colours = [yard, walk, grass, kerb, kerb]
    return (
        np.array(edges, np.float32),
        np.array([*side, labels.ROAD, *side[::-1]], np.uint8),
        np.stack([*side_colours, road, *side_colours[::-1]]).astype(np.float32),
    )


def _grass(rng: np.random.Generator) -> Colour:
    """Draw a colour between fresh grass, dry grass and earth."""
    fresh, dry, earth = np.array([45, 110, 75]), np.array([70, 125, 135]), np.array([75, 95, 120])
    mix = rng.dirichlet([1.5, 1, 0.7])
    return (mix[0] * fresh + mix[1] * dry + mix[2] * earth) * rng.uniform(0.6, 1.25)


def _texture(
    rng: np.random.Generator, u: np.ndarray, z: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Return brightness factors around 1: grain, patches, and the joints of pavings."""
    tile = noise_tile(rng, 0.6)
    fine, coarse = rng.uniform(14, 30), rng.uniform(2, 6)
    strength = np.full(256, 0.06, np.float32)
    strength[[labels.ROAD, labels.TERRAIN]] = rng.uniform(0.02, 0.09), 0.16
    near = np.minimum(1, 18 / z)
    grain = tile[(z * fine).astype(int) % TILE, (u * fine).astype(int) % TILE]
    patches = tile[(z * coarse).astype(int) % TILE, (u * coarse).astype(int) % TILE]
    factor = 1 + strength[label] * (near * grain + 0.5 * patches)
    paved = np.zeros(256, bool)
    paved[[labels.SIDEWALK, labels.ROAD]] = rng.random() < 0.7, rng.random() < 0.15
    stone = rng.uniform(0.4, 1.2)
    columns, rows = u / stone, z / stone
    joint = (columns - np.floor(columns) < 0.06 + 0.002 * z) | (rows - np.floor(rows) < 0.06)
    return np.where(paved[label] & joint, factor * (1 - 0.25 * near), factor)


def _mark(
    rng: np.random.Generator,
    colour: np.ndarray,
    road: np.ndarray,
    u: np.ndarray,
    z: np.ndarray,
    street: Street,
) -> None:
    """Paint lane lines, the zebra and stop lines of a crossing, and tram rails, in place."""
    paint = grey(rng.uniform(170, 235)) * ([1, 1, 1] if rng.random() < 0.85 else [0.4, 0.85, 1])
    wear = rng.uniform(0.25, 1.0)
    period, width = rng.uniform(5, 10), rng.uniform(0.08, 0.18)
    dashed = np.mod(z + rng.uniform(0, 10), period) < 0.5 * period
    start, end = street.crossing or (1e9, 1e9)
    outside = (z < start - 4.5) | (z > end + 4.5)
    painted = np.zeros_like(road)
    if rng.random() < 0.85:
        for index, edge in enumerate(street.lanes):
            border = index in (0, len(street.lanes) - 1)
            if not border or rng.random() < 0.4:
                line = np.abs(u - np.float32(edge)) < width / 2 + 0.0004 * z
                painted |= line & outside & (border | dashed)
    zebra = (np.abs(z - start + 2.5) < 1.4) | (np.abs(z - end - 2.5) < 1.4)
    if rng.random() < 0.7:
        painted |= zebra & (np.mod(u, 1.0) < 0.5)
    painted |= (np.abs(z - start + 4.6) < 0.2) & (u > 0)
    painted &= road
    colour[painted] = wear * paint + (1 - wear) * colour[painted]
    if street.track is not None:
        rails = np.abs(np.abs(u - street.track) - 0.72) < 0.05 + 0.0008 * z
        colour[rails & road] *= rng.uniform(0.35, 0.6)
    if rng.random() < 0.5:  # repaired strips
        strip = np.abs(u - rng.uniform(-5, 5)) < rng.uniform(0.3, 1.2)
        colour[strip & road & ~painted] *= rng.uniform(0.75, 1.15)


def _cast_shadows(
    rng: np.random.Generator, u: np.ndarray, z: np.ndarray, street: Street
) -> np.ndarray:
    """Return the light that reaches the ground: shadows of the frontage and of trees."""
    light = np.ones_like(u)
    if street.light.direct < 0.3:
        return light
    depth = 1 - 0.55 * street.light.direct
    reach = rng.uniform(1, 9)
    ragged = reach + 2.5 * np.sign(np.sin(z / rng.uniform(4, 12))) * (rng.random() < 0.7)
    if street.light.sun[0] > 0:
        light[u > street.fronts[1] - ragged] = depth
    else:
        light[u < street.fronts[0] + ragged] = depth
    for _ in range(int(rng.integers(0, 5))):
        centre_u, centre_z = rng.uniform(-8, 8), rng.uniform(6, 40)
        spot = ((u - centre_u) / rng.uniform(1, 4)) ** 2 + ((z - centre_z) / rng.uniform(1, 3)) ** 2
        light[spot + 0.5 * np.sin(5 * u) * np.sin(4 * z) < 1] = depth
    return light


def _paste(canvas: Canvas, colour: np.ndarray, label: np.ndarray, top: int) -> None:
    area = slice(top * SUPERSAMPLING, None)
    height, width = label.shape
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    canvas.image[area] = cv2.resize(colour, size, interpolation=cv2.INTER_LINEAR)
    canvas.label[area] = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
