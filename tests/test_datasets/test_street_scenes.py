import cv2
import numpy as np
import pytest

from balkd_seg.datasets.street_scenes import draw_scene, labels
from balkd_seg.datasets.street_scenes.camera import Camera, Frame
from balkd_seg.datasets.street_scenes.canvas import SUPERSAMPLING, Canvas, grey, random_colour
from balkd_seg.datasets.street_scenes.cars import draw_car
from balkd_seg.datasets.street_scenes.noise import noise_tile
from balkd_seg.datasets.street_scenes.solids import Solid
from balkd_seg.datasets.street_scenes.stage import Stage
from balkd_seg.datasets.street_scenes.street import random_light, random_street

CAMERA = Camera(focal=400.0, centre=256.0, horizon=110.0, height=1.5)


def draw(index, size):
    return draw_scene(np.random.default_rng([7, index]), size)


@pytest.fixture(scope='module')
def scenes():
    return [draw(index, (256, 128)) for index in range(45)]


@pytest.fixture
def canvas():
    return Canvas((512, 256), haze=grey(200), visibility=100.0)


def test_same_state_same_scene():
    (_, other_label), (image, label), (again, again_label) = (draw(k, (96, 64)) for k in (0, 1, 1))
    assert np.array_equal(image, again)
    assert np.array_equal(label, again_label)
    assert not np.array_equal(label, other_label)


@pytest.mark.parametrize('size', [(512, 256), (33, 47), (160, 120), (64, 200)])
def test_shapes(size):
    image, label = draw_scene(np.random.default_rng(3), size)
    assert image.shape == (size[1], size[0], 3)
    assert label.shape == (size[1], size[0])
    assert image.dtype == label.dtype == np.uint8


def test_every_class_occurs_and_none_is_everything(scenes):
    pixels = sum(np.bincount(label.ravel(), minlength=256) for _, label in scenes)
    assert set(np.flatnonzero(pixels)) == {*range(19), 255}
    share = pixels[:19] / pixels[:19].sum()
    large = [labels.ROAD, labels.BUILDING, labels.SKY, labels.VEGETATION, labels.CAR]
    assert np.delete(share, large).max() < 0.08
    assert 0.2 < share[labels.ROAD] < 0.45


def test_street_like(scenes):
    """Sky lies above road; neither colour nor brightness alone tells the class."""
    colours = {labels.ROAD: [], labels.BUILDING: [], labels.SIDEWALK: []}
    for image, label in scenes[:25]:
        rows = np.arange(len(label))[:, None] * np.ones_like(label)
        assert rows[label == labels.SKY].mean() < rows[label == labels.ROAD].mean()
        for each, means in colours.items():
            if (label == each).sum() > 100:
                means.append(image[label == each].mean())
    spans = [(min(means), max(means)) for means in colours.values()]
    assert max(low for low, _ in spans) < min(high for _, high in spans)


def test_projection_by_hand():
    # 2 m right, on the ground, 10 m ahead: 2 * 400 / 10 = 80 right, 1.5 * 400 / 10 = 60 down
    assert CAMERA.project(np.array([2.0, 0.0, 10.0])).tolist() == [336.0, 170.0]
    assert CAMERA.project(np.array([0.0, 1.5, 3.0])).tolist() == [256.0, 110.0]


@pytest.mark.parametrize('angle', [0.0, 0.4, np.pi / 2, np.pi, -2.0])
def test_eye_is_the_camera(angle):
    frame = Frame(CAMERA, x=-3.0, z=12.0, angle=angle)
    world = frame.to_world(np.array(frame.eye()))
    assert np.allclose(world, [0.0, CAMERA.height, 0.0])
    assert np.allclose(frame.project(np.zeros(3)), frame.foot)


@pytest.mark.parametrize('angle', [0.0, 0.5, np.pi / 2, np.pi, -1.0])
@pytest.mark.parametrize('x', [-6.0, 0.2, 5.0])
def test_seen_faces_turn_the_same_way_on_screen(angle, x):
    """A face is seen exactly if its corners keep their sense of rotation when projected."""
    outline = np.array([[-2.0, 0.2], [2.0, 0.2], [2.0, 0.8], [0.5, 1.4], [-2.0, 1.4]])
    solid = Solid(Frame(CAMERA, x, 14.0, angle), outline, half=0.9)
    seen = solid.edges_seen()
    for index in range(len(outline)):
        corners = solid.on_edge(index, (-1, 1), (0, 1))
        area = cv2.contourArea(corners.astype(np.float32), oriented=True)
        assert (area > 0) == (index in seen), index


def test_label_follows_image(canvas):
    """What is drawn with a label changes both at the same pixels; a detail leaves the label."""
    canvas.image[:] = 0
    canvas.polygon(np.array([[10.0, 10], [60, 20], [30, 50]]), grey(255), labels.CAR)
    canvas.disc(100, 50, 12.5, grey(255), labels.CAR)
    canvas.lines(np.array([[[150.0, 20], [180, 60]]]), 3, grey(255), labels.CAR)
    canvas.discs(np.array([[220.0, 40]]), np.array([7.0]), np.full((1, 3), 255.0), labels.CAR)
    drawn = canvas.image.any(axis=-1)
    assert np.array_equal(drawn, canvas.label == labels.CAR)
    assert drawn.sum() > 1000
    before = canvas.label.copy()
    canvas.polygon(np.array([[0.0, 0], [90, 0], [90, 90]]), grey(9))
    assert np.array_equal(before, canvas.label)


def test_haze(canvas):
    canvas.set_depth(100.0)
    canvas.polygon(np.array([[0.0, 0], [50, 0], [50, 50], [0, 50]]), grey(0))
    assert canvas.image[10, 10, 0] == pytest.approx(200 * (1 - np.exp(-1)), abs=1)


def test_near_hides_far(canvas):
    rng = np.random.default_rng(0)
    stage = Stage(rng, canvas, random_street(rng, (512, 256)))
    for depth, label in ((9.0, labels.BUS), (30.0, labels.CAR), (20.0, labels.TRUCK)):
        square = np.array([[0.0, 0], [9, 0], [9, 9], [0, 9]])
        stage.put(depth, lambda _, canvas, square, label: canvas.polygon(square, grey(0), label),
                  square, label)  # fmt: skip
    stage.play()
    assert canvas.label[5, 5] == labels.BUS


def test_size_shrinks_with_distance():
    areas = []
    for z in (10.0, 20.0, 40.0):
        canvas = Canvas((512, 256), haze=grey(200), visibility=100.0)
        light = random_light(np.random.default_rng(1))
        draw_car(np.random.default_rng(2), canvas, Frame(CAMERA, 2.0, z, 0.0), light)
        areas.append((canvas.label == labels.CAR).sum() / SUPERSAMPLING**2)
    assert areas[0] / areas[1] == pytest.approx(4, rel=0.35)
    assert areas[1] / areas[2] == pytest.approx(4, rel=0.35)


def test_noise():
    tile = noise_tile(np.random.default_rng(0), 0.6)
    assert tile.mean() == pytest.approx(0, abs=1e-3)
    assert tile.std() == pytest.approx(1, abs=1e-3)
    # it tiles: across the seam it changes no more than inside
    assert np.abs(tile[:, 0] - tile[:, -1]).mean() < 2 * np.abs(np.diff(tile, axis=1)).mean()


def test_colours():
    rng = np.random.default_rng(0)
    colours = np.stack([random_colour(rng, (0.5, 0.8), (0.4, 0.9)) for _ in range(200)])
    value, low = colours.max(axis=1) / 255, colours.min(axis=1) / 255
    assert value.min() >= 0.4
    assert value.max() <= 0.9
    assert np.all((1 - low / value >= 0.5 - 1e-6) & (1 - low / value <= 0.8 + 1e-6))
    assert set(colours.argmax(axis=1)) == {0, 1, 2}
