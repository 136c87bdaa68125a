"""What stands beside the road: houses or what takes their place, trees, lamps, signs."""

import numpy as np

from .barriers import draw_fence, draw_hedge, draw_wall
from .furniture import draw_bollard, draw_clutter, draw_lamp, draw_sign
from .houses import draw_house
from .plants import draw_bush, draw_tree
from .stage import Stage
from .street import FAR

OUTWARDS = (-1, 1)  # away from the road, by side: left, right


def place_frontage(stage: Stage) -> None:
    """Line both sides with houses and open lots, leaving out a crossing street."""
    rng, crossing = stage.rng, stage.street.crossing or (1e9, 1e9)
    built = rng.uniform(0.3, 0.95)
    for side in (0, 1):
        end = 1.0
        while end < 0.75 * FAR:
            start, end = end, end + rng.uniform(7, 22)
            if start < crossing[1] + 2 and end > crossing[0] - 2:
                if start > crossing[0] - 8:
                    end = crossing[1] + 2
                    continue
                end = crossing[0] - 2
            if rng.random() < built:
                stage.put(end, draw_house, stage.street, side, start, end)
            else:
                _place_open_lot(stage, side, start, end)


def _place_open_lot(stage: Stage, side: int, start: float, end: float) -> None:
    """Leave out a house: trees behind a wall, a fence, a hedge or nothing."""
    rng, street = stage.rng, stage.street
    front = street.fronts[side]
    for _ in range(int(rng.integers(1, 6))):
        frame = street.frame(front + OUTWARDS[side] * rng.uniform(2, 12), rng.uniform(start, end))
        stage.put(end + 1, draw_tree, frame, street.light)
    kind = rng.choice(['wall', 'fence', 'hedge', 'open'], p=[0.35, 0.33, 0.18, 0.14])
    if kind == 'wall':
        stage.put(end, draw_wall, street, side, start, end)
    elif kind == 'fence':
        stage.put(end, draw_fence, street, front, start, end)
    elif kind == 'hedge':
        stage.put(end, draw_hedge, street, front, start, end)


def place_kerbside(stage: Stage) -> None:
    """Place trees, lamps, signs, posts, railings, bushes and clutter along both kerbs."""
    for side, out in enumerate(OUTWARDS):
        kerb = stage.street.kerbs[side] + out * 0.6
        _place_rows(stage, kerb, out)
        _place_singles(stage, kerb, out)


def _place_rows(stage: Stage, kerb: float, out: int) -> None:
    """Place what stands in rows: trees, lamps, posts, a railing."""
    rng, light = stage.rng, stage.street.light
    if rng.random() < 0.55:
        for z in np.arange(rng.uniform(9, 20), 90, rng.uniform(7, 16)):
            stage.stand(draw_tree, kerb + out * rng.uniform(0, 0.4), z, light)
    for z in np.arange(rng.uniform(4, 25), 110, rng.uniform(15, 30)):
        stage.stand(draw_lamp, kerb, z, light)
    if rng.random() < 0.25:
        for z in np.arange(rng.uniform(4, 15), rng.uniform(20, 45), 1.8):
            stage.stand(draw_bollard, kerb - out * 0.2, z)
    if rng.random() < 0.2:
        start = rng.uniform(2, 25)
        end = start + rng.uniform(6, 30)
        stage.put(end, draw_fence, stage.street, kerb - out * 0.2, start, end)


def _place_singles(stage: Stage, kerb: float, out: int) -> None:
    """Place what stands alone: signs, clutter, bushes."""
    rng = stage.rng
    for z in rng.uniform(6, 50, int(rng.integers(0, 4))):
        stage.stand(draw_sign, kerb, z)
    for z in rng.uniform(4, 45, int(rng.integers(0, 3))):
        stage.stand(draw_clutter, kerb + out * rng.uniform(0, 2), z)
    for z in rng.uniform(6, 40, int(rng.integers(0, 3))):
        stage.stand(draw_bush, kerb + out * rng.uniform(0, 1), z)
