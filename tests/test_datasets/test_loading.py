import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

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


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_any_backend_as_mmcv_has_it(save, backend):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    results = dict(img_path=save(pixels, 'image.png'))
    ours, theirs = (
        kind(imdecode_backend=backend)(dict(results))
        for kind in (LoadCheckedImage, LoadImageFromFile)
    )
    assert np.array_equal(ours['img'], pixels)
    assert np.array_equal(theirs['img'], pixels)


def test_a_decoder_that_is_missing_is_named(save, monkeypatch):
    monkeypatch.setattr('mmcv.image.io.tifffile', None)
    path = save(np.zeros((4, 4, 3), np.uint8), 'image.png')
    with pytest.raises(ValueError, match=r"'tifffile' to be .*image\.png\. pip install tifffile"):
        LoadCheckedImage(imdecode_backend='tifffile')(dict(img_path=path))


def test_an_error_of_the_file_system_is_left_as_it_is(tmp_path):
    with pytest.raises(IsADirectoryError, match='Is a directory'):
        LoadCheckedImage()(dict(img_path=str(tmp_path)))
    with pytest.raises(IsADirectoryError, match='Is a directory'):
        load_label(str(tmp_path))


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data:UserWarning')  # Pillow's of the same
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif'])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.7])
def test_truncated_image_is_named(tmp_path, suffix, share, backend):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    encoded = cv2.imencode(suffix, pixels)[1].tobytes()
    path = tmp_path / f'frame{suffix}'
    path.write_bytes(encoded[: int(share * len(encoded))])
    with pytest.raises(ValueError, match=rf'readable image file, but .*frame\{suffix} \(\d+ bytes'):
        LoadCheckedImage(imdecode_backend=backend)(dict(img_path=str(path)))


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


@pytest.mark.parametrize('load', [load_label, LoadCheckedImage(imdecode_backend='pillow')])
@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'P5 4a 4 255 ' + bytes(16), 'invalid literal'),  # a ValueError of Pillow's
        (None, 'limit of 32 pixels.*cut it into tiles, or set PIL.Image.MAX_IMAGE_PIXELS'),
    ],
)
def test_whatever_else_a_decoder_raises_is_named(tmp_path, monkeypatch, load, content, reason):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 16)  # twice as many are an error
    path = tmp_path / 'large.png'
    path.write_bytes(content or cv2.imencode('.png', np.eye(8, dtype=np.uint8))[1].tobytes())
    argument = str(path) if load is load_label else dict(img_path=str(path))
    with pytest.raises(ValueError, match=rf'readable \w+ file, but .*large\.png .*{reason}'):
        load(argument)


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


@pytest.mark.parametrize('label_map', [{11: 255}, {11: 255, 65535: 1, -1: 2}])
def test_known_to_the_label_map(save, label_map):
    label = np.array([[0, 11]], np.uint8)
    results = load_label(save(label), label_map=label_map)
    assert results['gt_seg_map'].tolist() == [[0, 255]]


def test_sixteen_bits_that_the_label_map_knows(save):
    label = np.array([[0, 3, 256, 65535]], np.uint16)
    results = load_label(save(label), label_map={3: 2, 2: 3, 256: 1, 65535: 255})
    assert results['gt_seg_map'].tolist() == [[0, 2, 1, 255]]
    assert results['gt_seg_map'].dtype == np.uint8


def test_a_label_map_that_leads_out_of_eight_bits(save):
    with pytest.raises(ValueError, match=r"lead to 0 to 255, but got \['1: -1'\].*ignored to 255"):
        load_label(save(np.zeros((2, 2), np.uint8)), label_map={1: -1})


@pytest.mark.parametrize('mode', ['1-bit', 'palette', 'float', 'int32'])
def test_other_formats_as_mmseg_reads_them(tmp_path, mode):
    label = np.eye(6, 9, dtype=np.uint8)
    image = {
        '1-bit': lambda: Image.fromarray(label.astype(bool)),
        'palette': lambda: Image.fromarray(label).convert('P', palette=Image.Palette.ADAPTIVE),
        'float': lambda: Image.fromarray(label.astype(np.float32)),
        'int32': lambda: Image.fromarray(label.astype(np.int32)),
    }[mode]()
    path = str(tmp_path / ('label.png' if mode in ('1-bit', 'palette') else 'label.tif'))
    image.save(path)
    ours, theirs = (
        loader(dict(seg_map_path=path, seg_fields=[], reduce_zero_label=False, label_map={1: 3}))
        for loader in (LoadCheckedAnnotations(5), LoadAnnotations())
    )
    assert np.array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
    assert ours['gt_seg_map'].dtype == np.uint8
    assert set(ours['gt_seg_map'].flat) <= {0, 3}


@pytest.mark.parametrize('value', [0.5, np.nan, np.inf])
def test_fractions_are_refused(tmp_path, value):
    label = np.zeros((4, 4), np.float32)
    label[1, 2] = value
    Image.fromarray(label).save(tmp_path / 'label.tif')
    with pytest.raises(ValueError, match=rf'whole numbers in .*label\.tif, but got \[{value}\]'):
        load_label(str(tmp_path / 'label.tif'))


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
