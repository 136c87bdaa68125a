"""Who uses the street: vehicles driving, parked and crossing, people on foot and on wheels."""

from collections.abc import Callable

import numpy as np

from .cars import draw_car
from .furniture import draw_traffic_light
from .long_vehicles import draw_bus, draw_tram, draw_truck
from .people import draw_person
from .roadside import OUTWARDS
from .stage import Stage
from .street import Street
from .two_wheelers import draw_bicycle, draw_motorcycle


def place_driving(stage: Stage) -> None:
    """Fill the lanes; traffic keeps to the right."""
    rng, street = stage.rng, stage.street
    gap = rng.uniform(9, 40)
    for low, high in zip(street.lanes[:-1], street.lanes[1:], strict=True):
        own = low < street.offset < high
        tracks = street.track is not None and low < street.track < high
        z = rng.uniform(9, 25) if own else rng.uniform(7, 25)
        while z < 110:
            u = (low + high) / 2 + rng.normal(0, 0.15)
            _place_driver(stage, u, z, tracks, z > (16 if own else 12))
            z += 12 + rng.exponential(gap)


def _place_driver(stage: Stage, u: float, z: float, tracks: bool, long: bool) -> None:
    """Choose what drives at (u, z): on `tracks` also a tram; if `long`, trucks and buses too."""
    rng, light = stage.rng, stage.street.light
    turn = np.pi if u < 0 else 0.0
    kinds = ['car', 'truck', 'bus', 'motorcycle', 'bicycle']
    kind = rng.choice(kinds, p=[0.59, 0.1, 0.11, 0.12, 0.08])
    if tracks and long and rng.random() < 0.4:
        stage.stand(draw_tram, u, z + 2, light, turn=turn)
    elif kind == 'bicycle':
        stage.stand(draw_bicycle, u, z, rng.uniform(0.12, 0.4), True)
    elif kind == 'motorcycle':
        stage.stand(draw_motorcycle, u, z, rng.uniform(0.12, 0.4), True)
    else:
        draw = {'truck': draw_truck, 'bus': draw_bus}.get(kind, draw_car) if long else draw_car
        stage.stand(draw, u, z, light, turn=turn)


def place_parked(stage: Stage) -> None:
    """Fill the parking strips, where there are any, up to a crossing street."""
    rng, street = stage.rng, stage.street
    for side, edge in enumerate((street.lanes[0], street.lanes[-1])):
        if abs(street.kerbs[side] - edge) < 1:
            continue
        u = (edge + street.kerbs[side]) / 2
        z, fill = rng.uniform(4.5, 15), rng.uniform(0.2, 0.95)
        while z < 100:
            if rng.random() < fill and not _in_crossing(street, z):
                draw = draw_truck if rng.random() < 0.04 and z > 12 else draw_car
                turn = np.pi * (side == 0) + rng.normal(0, 0.03)
                stage.stand(draw, u, z, street.light, turn=turn)
            z += rng.uniform(5.3, 7)


def place_people(stage: Stage) -> None:
    """Place people alone and in groups on the sidewalks, and two-wheelers ridden and parked."""
    rng, street = stage.rng, stage.street
    for side, out in enumerate(OUTWARDS):
        kerb = street.kerbs[side] + out * 0.5
        walk = abs(street.fronts[side] - out * 0.4 - kerb)
        for _ in range(int(rng.poisson(2.4))):
            u, z = kerb + out * rng.uniform(0, walk), rng.uniform(6, 55)
            group = int(rng.integers(2, 5)) if rng.random() < 0.4 else 1
            for _ in range(group):
                stage.stand(draw_person, u + rng.normal(0, 0.7), z + rng.normal(0, 0.6))
        edge = (street.lanes[0], street.lanes[-1])[side]
        for _ in range(int(rng.poisson(0.8))):
            ride = _two_wheeler(rng)
            u, z = edge - out * rng.uniform(0.2, 0.9), rng.uniform(6, 45)
            stage.stand(ride, u, z, rng.uniform(0.15, 0.8), True)
        if rng.random() < 0.5:
            ride = _two_wheeler(rng)
            start = rng.uniform(5, 30)
            for z in start + 0.7 * np.arange(int(rng.integers(1, 8))):
                squeeze = rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
                stage.stand(ride, kerb + out * rng.uniform(0, 0.3), z, squeeze, False)


def place_junction(stage: Stage) -> None:
    """Place traffic lights, people and cross traffic where a street crosses."""
    rng, street = stage.rng, stage.street
    if street.crossing is None:
        return
    start, end = street.crossing
    if rng.random() < 0.9:
        for z in (start - 4.8, end + 4.8):
            for side, out in enumerate(OUTWARDS):
                stage.stand(draw_traffic_light, street.kerbs[side] + out * 0.5, z, street.light)
    for _ in range(int(rng.integers(0, 6))):
        stage.stand(draw_person, rng.uniform(*street.kerbs), start - rng.uniform(1.4, 3.5))
    for _ in range(int(rng.integers(0, 4))):
        u, z = rng.uniform(-16, 16), start + rng.uniform(0.25, 0.75) * (end - start)
        way = rng.choice([-1, 1])
        if rng.random() < 0.2:
            stage.stand(_two_wheeler(rng), u, z, way * rng.uniform(0.8, 1), True)
        else:
            drive = (draw_car, draw_truck, draw_bus)[int(rng.choice(3, p=[0.7, 0.15, 0.15]))]
            stage.stand(drive, u, z, street.light, turn=way * np.pi / 2)


def _two_wheeler(rng: np.random.Generator) -> Callable[..., None]:
    return draw_bicycle if rng.random() < 0.65 else draw_motorcycle


def _in_crossing(street: Street, z: float) -> bool:
    return street.crossing is not None and street.crossing[0] - 5 < z < street.crossing[1] + 5
