"""Trucks, buses and trams."""

import numpy as np

from . import labels
from .camera import Frame
from .canvas import Canvas, grey, random_colour
from .solids import Solid
from .street import Light
from .vehicle_parts import (
    draw_head_lamps,
    draw_shadow,
    draw_tail_lamps,
    draw_wheels,
    draw_window_row,
    paints,
    random_glass,
    random_paint,
    side_panel,
)

_AMBER = np.array([40.0, 175, 250])  # destination displays


def _box(near: float, far: float, low: float, high: float) -> np.ndarray:
    return np.array([[near, low], [far, low], [far, high], [near, high]])


def draw_truck(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a truck: a cab and a load on a chassis."""
    length, half = rng.uniform(6, 10), rng.uniform(1.15, 1.28)
    high, cab_high, cab_length = rng.uniform(2.8, 3.8), rng.uniform(2.3, 3.0), rng.uniform(1.6, 2.2)
    nose, joint = length / 2, length / 2 - cab_length
    cab_outline = [
        [joint, 0.5],
        [nose, 0.5],
        [nose, 1.4],
        [nose - 0.25, cab_high],
        [joint, cab_high],
    ]
    cab = Solid(frame, np.array(cab_outline), half * 0.96)
    load = Solid(frame, _box(-nose, joint, 1.0, high), half)
    chassis = Solid(frame, _box(-nose, nose, 0.45, 1.0), half * 0.8)
    cab_paint, glass, label = random_paint(rng), random_glass(rng, light), labels.TRUCK
    load_paint = grey(225) if rng.random() < 0.35 else random_colour(rng, (0, 0.8), (0.2, 0.95))

    draw_shadow(canvas, frame, length, half)
    chassis.draw(canvas, light, [grey(30)] * 4, label, grey(35))
    cab_paints = paints(['dark', 'front', 'glass', 'body', 'body'], cab_paint, glass)
    parts = [(cab, cab_paints, cab_paint), (load, [load_paint] * 4, load_paint)]
    if frame.eye()[0] > 0:  # it comes towards the camera: the cab is nearer
        parts.reverse()
    for solid, inks, body in parts:
        solid.draw(canvas, light, inks, label, body)
    axles = [-0.38 * length, -0.25 * length, 0.36 * length]
    draw_wheels(canvas, Solid(frame, chassis.outline, half), axles, rng.uniform(0.42, 0.52), label)
    if cab.side_seen():
        side_panel(canvas, cab, (nose - 1.2, nose - 0.5), (1.5, cab_high - 0.25), glass)
        for rib in np.arange(-nose, joint - 0.2, rng.uniform(0.5, 2.5)):
            side_panel(canvas, load, (rib, rib + 0.06), (1.0, high), load_paint * 0.75)
    if 3 in load.edges_seen():
        canvas.polygon(load.on_edge(3, (-0.02, 0.02), (0, 1)), load_paint * 0.5)
    draw_head_lamps(canvas, cab, light, 1, (0.1, 0.35))
    draw_tail_lamps(rng, canvas, chassis, light, 3, (0.2, 0.7))


def draw_bus(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a city bus or a coach."""
    length, high = rng.uniform(9, 12.5), rng.uniform(2.9, 3.3)
    nose = length / 2
    brow = [[nose, 1.1], [nose - 0.15, high - 0.35], [nose - 0.2, high]]
    solid = Solid(frame, np.array([[-nose, 0.3], [nose, 0.3], *brow, [-nose, high]]), 1.27)
    kinds = ['dark', 'front', 'glass', 'front', 'body', 'rear']
    body, glass = random_colour(rng, (0.1, 0.95), (0.35, 0.95)), random_glass(rng, light, lit=60)

    draw_shadow(canvas, frame, length, solid.half)
    solid.draw(canvas, light, paints(kinds, body, glass), labels.BUS, body)
    draw_wheels(canvas, solid, [-0.27 * length, 0.32 * length], 0.48, labels.BUS)
    if solid.side_seen():
        row = (-nose + 0.4, nose)
        draw_window_row(canvas, solid, row, (1.25, high - 0.6), rng.uniform(1.1, 1.7), glass)
        if rng.random() < 0.5:
            stripe = random_colour(rng, (0, 1), (0.2, 1))
            side_panel(canvas, solid, (-nose, nose), (0.85, 1.15), stripe)
        for door in (nose - 1.4, -0.1 * length):
            side_panel(canvas, solid, (door, door + 1.1), (0.4, high - 0.6), glass * 0.7)
    seen = solid.edges_seen()
    if 5 in seen:
        canvas.polygon(solid.on_edge(5, (-0.85, 0.85), (0.1, 0.45)), glass)
        canvas.polygon(solid.on_edge(5, (-0.4, 0.4), (0.02, 0.08)), _AMBER)
    if 3 in seen:
        canvas.polygon(solid.on_edge(3, (-0.6, 0.6), (0.1, 0.9)), _AMBER)
    draw_head_lamps(canvas, solid, light, 1, (0.3, 0.6))
    draw_tail_lamps(rng, canvas, solid, light, 5, (0.4, 0.7))


def draw_tram(rng: np.random.Generator, canvas: Canvas, frame: Frame, light: Light) -> None:
    """Draw a tram of two cars with its current collector; its class is train."""
    high, half, car = rng.uniform(3.3, 3.7), rng.uniform(1.15, 1.3), rng.uniform(8, 11)
    body, glass = random_colour(rng, (0, 0.95), (0.35, 0.95)), random_glass(rng, light, lit=60)
    stripe = random_colour(rng, (0, 0.9), (0.1, 0.9))
    band = rng.choice([0.15, 0.8])
    kinds = ['dark', 'front', 'glass', 'body', 'body', 'body', 'glass', 'rear']

    draw_shadow(canvas, frame, 2 * car, half)
    for way in (1, -1) if frame.eye()[0] < 0 else (-1, 1):  # the farther car first
        middle, end = way * car / 2, 0.985 * car
        front, rear = middle + end / 2, middle - end / 2
        cut, top_cut = (0.5, 0.7)
        ahead, behind = float(way > 0), float(way < 0)
        outline = [
            [rear, 0.15], [front, 0.15], [front, 1.2], [front - cut * ahead, high - 0.2],
            [front - top_cut * ahead, high], [rear + top_cut * behind, high],
            [rear + cut * behind, high - 0.2], [rear, 1.2],
        ]  # fmt: skip
        solid = Solid(frame, np.array(outline), half)
        solid.draw(canvas, light, paints(kinds, body, glass), labels.TRAIN, body)
        if solid.side_seen():
            row = (rear + 0.5, front - 0.3)
            draw_window_row(canvas, solid, row, (1.2, high - 0.8), 1.5, glass)
            side_panel(canvas, solid, (rear, front), (band, band + 0.35), stripe)
        if way > 0:
            draw_head_lamps(canvas, solid, light, 1, (0.4, 0.6))
        else:
            draw_tail_lamps(rng, canvas, solid, light, 7, (0.4, 0.6))
    mast, bow = [(0, 0, high), (0.6, 0, high + 0.6), (0, 0, high + 1.2)], high + 1.2
    for wire in (mast, [(0, -0.8, bow), (0, 0.8, bow)]):
        pixels = frame.project(np.array(wire, float))[None]
        canvas.lines(pixels, 0.06 * frame.scale, grey(50), labels.TRAIN)
