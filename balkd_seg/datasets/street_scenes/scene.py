"""A whole street scene: what stands where, drawn from far to near."""

from collections.abc import Callable
from functools import partial

import numpy as np

from .backdrop import draw_sky, draw_skyline
from .canvas import Canvas
from .furniture import draw_bollards, draw_clutter, draw_lamp, draw_sign, draw_traffic_light
from .ground import draw_ground
from .people import draw_bicycle, draw_motorcycle, draw_person
from .photometry import draw_bonnet, finish
from .plants import draw_foliage, draw_tree
from .street import FAR, Street, random_street
from .structures import draw_fence, draw_hedge, draw_house, draw_wall
from .vehicles import draw_bus, draw_car, draw_tram, draw_truck

Item = tuple[float, Callable[[], None]]  # distance in metres, and what draws it


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
    items = [
        *_frontage(rng, canvas, street),
        *_kerbside(rng, canvas, street),
        *_traffic(rng, canvas, street),
        *_people(rng, canvas, street),
        *_junction(rng, canvas, street),
    ]
    for distance, draw in sorted(items, key=lambda item: -item[0]):
        canvas.depth = distance
        draw()
    if rng.random() < 0.6:
        draw_bonnet(rng, canvas, street.light)
    return finish(rng, canvas, street.light)


def _frontage(rng: np.random.Generator, canvas: Canvas, street: Street) -> list[Item]:
    """Line both sides of the street."""
    items: list[Item] = []
    built = rng.uniform(0.3, 0.95)
    for side in (0, 1):
        end = 1.0
        while end < 0.75 * FAR:
            start, end = end, end + rng.uniform(7, 22)
            if (
                street.crossing is not None
                and start < street.crossing[1]
                and end > street.crossing[0]
            ):
                if start < street.crossing[0] - 6:
                    end = street.crossing[0] - 2
                else:
                    end = street.crossing[1] + 2
                    continue
            place = (rng, canvas, street, side, start, end)
            if rng.random() < built:
                items.append((end, partial(draw_house, *place)))
            else:
                items += _open_lot(rng, canvas, street, side, start, end)
    return items


def _open_lot(
    rng: np.random.Generator, canvas: Canvas, street: Street, side: int, start: float, end: float
) -> list[Item]:
    """Leave out a house: trees behind a wall, a fence, a hedge or nothing."""
    out = 1 if side else -1
    items: list[Item] = []
    for _ in range(int(rng.integers(1, 6))):
        u, z = street.fronts[side] + out * rng.uniform(2, 12), rng.uniform(start, end)
        items.append((end + 1, partial(draw_tree, rng, canvas, street.frame(u, z), street.light)))
    place = (rng, canvas, street, side, start, end)
    kind = rng.choice(['wall', 'fence', 'hedge', 'open'], p=[0.33, 0.33, 0.2, 0.14])
    if kind == 'wall':
        items.append((end, partial(draw_wall, *place)))
    elif kind == 'fence':
        fence = (rng, canvas, street, street.fronts[side], start, end)
        items.append((end, partial(draw_fence, *fence)))
    elif kind == 'hedge':
        items.append((end, partial(draw_hedge, *place)))
    return items


def _kerbside(rng: np.random.Generator, canvas: Canvas, street: Street) -> list[Item]:
    """Place trees, lamps, signs, bollards, parked bicycles and clutter along the kerbs."""
    items: list[Item] = []
    light = street.light
    for side in (0, 1):
        out = 1 if side else -1
        kerb = street.kerbs[side] + out * 0.6
        if rng.random() < 0.55:
            for z in np.arange(rng.uniform(4, 12), 90, rng.uniform(6, 16)):
                frame = street.frame(kerb + out * rng.uniform(0, 0.4), z)
                items.append((z, partial(draw_tree, rng, canvas, frame, light)))
        for z in np.arange(rng.uniform(4, 25), 110, rng.uniform(15, 30)):
            items.append((z, partial(draw_lamp, rng, canvas, street.frame(kerb, z), light)))
        for z in rng.uniform(6, 55, int(rng.integers(0, 4))):
            items.append((z, partial(draw_sign, rng, canvas, street.frame(kerb, z))))
        if rng.random() < 0.25:
            for z in np.arange(rng.uniform(4, 15), rng.uniform(20, 45), 1.8):
                frame = street.frame(kerb - out * 0.2, z)
                items.append((z, partial(draw_bollards, rng, canvas, frame)))
        if rng.random() < 0.18:
            start = rng.uniform(2, 25)
            fence = (rng, canvas, street, kerb - out * 0.2, start, start + rng.uniform(6, 30))
            items.append((fence[-1], partial(draw_fence, *fence)))
        for z in rng.uniform(4, 45, int(rng.integers(0, 3))):
            frame = street.frame(kerb + out * rng.uniform(0, 2), z)
            items.append((z, partial(draw_clutter, rng, canvas, frame)))
        for z in rng.uniform(5, 40, int(rng.integers(0, 3))):
            frame = street.frame(kerb + out * rng.uniform(0, 1), z)
            colour = np.array([45.0, 90, 65]) * rng.uniform(0.6, 1.4)
            size = rng.uniform(0.4, 1.0)
            items.append((z, partial(draw_foliage, rng, canvas, frame, size, size, colour)))
    return items


def _traffic(rng: np.random.Generator, canvas: Canvas, street: Street) -> list[Item]:
    """Place what drives and what is parked."""
    items: list[Item] = []
    light = street.light
    density = rng.uniform(9, 40)
    for lane, (low, high) in enumerate(zip(street.lanes, street.lanes[1:], strict=False)):
        u = (low + high) / 2
        oncoming = u < 0
        own = low < street.offset < high
        z = rng.uniform(9, 25) if own else rng.uniform(7, 25)
        while z < 110:
            frame = street.frame(u + rng.normal(0, 0.15), z, np.pi if oncoming else 0.0)
            on_track = street.track is not None and low < street.track < high
            items.append((z, _vehicle(rng, canvas, frame, street, on_track, z, own)))
            z += 12 + rng.exponential(density)
        del lane
    for side in (0, 1):
        edge = street.lanes[-1] if side else street.lanes[0]
        if abs(street.kerbs[side] - edge) < 1:
            continue
        u = (edge + street.kerbs[side]) / 2
        z = rng.uniform(4.5, 15)
        fill = rng.uniform(0.2, 0.95)
        while z < 100:
            if rng.random() < fill and not _in_crossing(street, z):
                frame = street.frame(u, z, np.pi * (side == 0) + rng.normal(0, 0.03))
                draw = draw_truck if rng.random() < 0.04 and z > 10 else draw_car
                items.append((z, partial(draw, rng, canvas, frame, light)))
            z += rng.uniform(5.3, 7)
    return items


def _vehicle(
    rng: np.random.Generator,
    canvas: Canvas,
    frame,
    street: Street,
    on_track: bool,
    z: float,
    own: bool,
) -> Callable[[], None]:
    """Choose what drives in a lane; long vehicles keep away from the camera."""
    light = street.light
    if on_track and z > 14 and rng.random() < 0.6:
        return partial(draw_tram, rng, canvas, frame, light)
    kind = rng.choice(
        ['car', 'truck', 'bus', 'motorcycle', 'bicycle'], p=[0.5, 0.16, 0.14, 0.12, 0.08]
    )
    if kind in ('truck', 'bus') and (z > 11 if not own else z > 16):
        return partial(draw_truck if kind == 'truck' else draw_bus, rng, canvas, frame, light)
    if kind in ('motorcycle', 'bicycle'):
        draw = draw_motorcycle if kind == 'motorcycle' else draw_bicycle
        return partial(draw, rng, canvas, frame, rng.uniform(0.12, 0.4), True)
    return partial(draw_car, rng, canvas, frame, light)


def _people(rng: np.random.Generator, canvas: Canvas, street: Street) -> list[Item]:
    """Place people, alone and in groups, and cyclists, riding and parked."""
    items: list[Item] = []
    for side in (0, 1):
        out = 1 if side else -1
        low, high = street.kerbs[side] + out * 0.5, street.fronts[side] - out * 0.4
        for _ in range(int(rng.poisson(2.2))):
            u, z = rng.uniform(low, high) if side else rng.uniform(high, low), rng.uniform(6, 60)
            for _ in range(1 + int(rng.random() < 0.4) * int(rng.integers(1, 4))):
                frame = street.frame(u + rng.normal(0, 0.7), z + rng.normal(0, 0.6))
                items.append((frame.z, partial(draw_person, rng, canvas, frame)))
        for _ in range(int(rng.poisson(0.9))):
            edge = street.lanes[-1] if side else street.lanes[0]
            frame = street.frame(edge - out * rng.uniform(0.2, 0.9), rng.uniform(6, 45))
            draw = draw_bicycle if rng.random() < 0.7 else draw_motorcycle
            items.append((frame.z, partial(draw, rng, canvas, frame, rng.uniform(0.15, 0.8), True)))
        if rng.random() < 0.45:
            start = rng.uniform(5, 30)
            draw = draw_bicycle if rng.random() < 0.65 else draw_motorcycle
            for z in start + np.arange(int(rng.integers(1, 7))) * 0.7:
                frame = street.frame(low + out * rng.uniform(0, 0.3), z)
                squeeze = rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
                items.append((z, partial(draw, rng, canvas, frame, squeeze, False)))
    return items


def _junction(rng: np.random.Generator, canvas: Canvas, street: Street) -> list[Item]:
    """Place traffic lights, people crossing and cross traffic where a street crosses."""
    if street.crossing is None:
        return []
    items: list[Item] = []
    start, end = street.crossing
    if rng.random() < 0.75:
        for z in (start - 4.8, end + 4.8):
            for side in (0, 1):
                u = street.kerbs[side] + (0.5 if side else -0.5)
                frame = street.frame(u, z)
                items.append((z, partial(draw_traffic_light, rng, canvas, frame, street.light)))
    for _ in range(int(rng.integers(0, 6))):
        frame = street.frame(rng.uniform(*street.kerbs), start - rng.uniform(1.4, 3.5))
        items.append((frame.z, partial(draw_person, rng, canvas, frame)))
    for _ in range(int(rng.integers(0, 4))):
        u, z = rng.uniform(-16, 16), start + rng.uniform(0.25, 0.75) * (end - start)
        frame = street.frame(u, z, rng.choice([-1, 1]) * np.pi / 2)
        choice = rng.random()
        if choice < 0.2:
            squeeze = rng.choice([-1, 1]) * rng.uniform(0.8, 1)
            ride = draw_bicycle if rng.random() < 0.5 else draw_motorcycle
            items.append((z, partial(ride, rng, canvas, frame, squeeze, True)))
        else:
            drive = draw_car if choice < 0.75 else (draw_truck if choice < 0.87 else draw_bus)
            items.append((z, partial(drive, rng, canvas, frame, street.light)))
    return items


def _in_crossing(street: Street, z: float) -> bool:
    return street.crossing is not None and street.crossing[0] - 5 < z < street.crossing[1] + 5
