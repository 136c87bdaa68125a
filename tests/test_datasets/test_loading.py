import cv2
import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations

from balkd_seg.datasets import LoadCheckedAnnotations, LoadCheckedImage


@pytest.fixture
def save(tmp_path):
    def write(array, name='label.png'):
        path = str(tmp_path / name)
        assert cv2.imwrite(path, array)
        return path

    return write


def load_label(path, num_classes=5, **more):
    results = dict(seg_map_path=path, seg_fields=[], reduce_zero_label=False, **more)
    return LoadCheckedAnnotations(num_classes)(results)


def test_image_as_mmcv_loads_it(save):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    results = LoadCheckedImage()(dict(img_path=save(pixels, 'image.png')))
    assert np.array_equal(results['img'], pixels)
    assert results['ori_shape'] == (7, 9)


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.7])
def test_truncated_image_is_named(tmp_path, suffix, share):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    encoded = cv2.imencode(suffix, pixels)[1].tobytes()
    path = tmp_path / f'frame{suffix}'
    path.write_bytes(encoded[: int(share * len(encoded))])
    with pytest.raises(ValueError, match=rf'readable image file, but .*frame\{suffix} \(\d+ bytes'):
        LoadCheckedImage()(dict(img_path=str(path)))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.png'):
        LoadCheckedImage()(dict(img_path=str(tmp_path / 'gone.png')))
    with pytest.raises(FileNotFoundError, match=r'gone\.png'):
        load_label(str(tmp_path / 'gone.png'))


@pytest.mark.parametrize('content', [b'', b'no image at all', None])
def test_unreadable_label_is_named(tmp_path, content):
    if content is None:  # truncated
        content = cv2.imencode('.png', np.eye(64, dtype=np.uint8))[1].tobytes()[:60]
    path = tmp_path / 'broken.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'readable label file, but .*broken\.png'):
        load_label(str(path))


@pytest.mark.parametrize('label_map', [None, {0: 1, 1: 255, 2: 0, 3: 3, 4: 4}])
def test_same_as_mmseg_on_good_labels(save, label_map):
    label = np.random.default_rng(0).choice([0, 1, 2, 3, 4, 255], (8, 9)).astype(np.uint8)
    path = save(label)
    ours = load_label(path, label_map=label_map)
    theirs = LoadAnnotations()(
        dict(seg_map_path=path, seg_fields=[], reduce_zero_label=False, label_map=label_map)
    )
    assert np.array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
    assert ours['gt_seg_map'].dtype == np.uint8
    assert ours['seg_fields'] == theirs['seg_fields'] == ['gt_seg_map']


def test_label_outside_the_classes(save):
    label = np.zeros((4, 4), np.uint8)
    label[0, :2] = 5, 200
    with pytest.raises(ValueError, match=r'\[0, 4\] or 255 in .*label\.png, but got \[5, 200\]'):
        load_label(save(label))


def test_sixteen_bits_do_not_wrap_round(save):
    label = np.full((4, 4), 256, np.uint16)  # would become class 0
    with pytest.raises(ValueError, match=r'but got \[256\]'):
        load_label(save(label))


def test_known_to_the_label_map(save):
    label = np.array([[0, 11]], np.uint8)
    results = load_label(save(label), label_map={11: 255})
    assert results['gt_seg_map'].tolist() == [[0, 255]]


def test_coloured_label_is_refused(save):
    with pytest.raises(ValueError, match=r'one channel in .*label\.png, but got shape \(4, 4, 3\)'):
        load_label(save(np.zeros((4, 4, 3), np.uint8)))


def test_size_differs_from_the_image(save):
    with pytest.raises(ValueError, match=r'label\.png to have the size .*\(4, 8\).*got \(4, 4\)'):
        load_label(save(np.zeros((4, 4), np.uint8)), ori_shape=(4, 8))


def test_zero_label_is_left_to_mmseg(save):
    results = dict(seg_map_path=save(np.zeros((2, 2), np.uint8)), reduce_zero_label=True)
    with pytest.raises(ValueError, match='reduce_zero_label=False, but got True'):
        LoadCheckedAnnotations(5)(results)


def test_bare_image_passes():
    assert LoadCheckedAnnotations(5)(dict(img='x')) == dict(img='x')
    assert repr(LoadCheckedAnnotations(5)) == 'LoadCheckedAnnotations(num_classes=5)'
