import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample

from balkd_seg.datasets import CamVidDataset

PIPELINE = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadCheckedAnnotations', num_classes=11),
    dict(type='PackSegInputs'),
]


@pytest.fixture
def camvid(tmp_path):
    """Return a folder with three frames: two .png, one .jpg; every label value occurs."""
    rng = np.random.default_rng(0)
    (tmp_path / 'train').mkdir()
    (tmp_path / 'trainannot').mkdir()
    for name in ('b.png', 'a.png', 'c.jpg'):
        image = rng.integers(0, 255, (24, 36, 3), dtype=np.uint8)
        label = (np.arange(24 * 36) % 12).astype(np.uint8).reshape(24, 36)
        cv2.imwrite(str(tmp_path / 'train' / name), image)
        cv2.imwrite(str(tmp_path / 'trainannot' / f'{name[0]}.png'), label)
    return tmp_path


def build(root, **overrides):
    prefix = dict(img_path='train', seg_map_path='trainannot')
    return CamVidDataset(data_root=str(root), data_prefix=prefix, pipeline=PIPELINE, **overrides)


def test_mixed_suffixes_in_order(camvid):
    dataset = build(camvid)
    names = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert [name.rsplit('/', 1)[1] for name in names] == ['a.png', 'b.png', 'c.jpg']


def test_unlabelled_is_ignored_and_classes_stay(camvid):
    target = build(camvid)[0]['data_samples'].gt_sem_seg.data.squeeze().numpy()
    stored = np.arange(24 * 36).reshape(24, 36) % 12
    assert np.array_equal(target[stored == 11], np.full((stored == 11).sum(), 255))
    assert np.array_equal(target[stored != 11], stored[stored != 11])


@pytest.mark.parametrize('loader', ['LoadAnnotations', 'LoadCheckedAnnotations'])
def test_stock_loader_gives_the_same_target(camvid, loader):
    arguments = {'num_classes': 11} if loader == 'LoadCheckedAnnotations' else {}
    pipeline = [PIPELINE[0], dict(type=loader, **arguments), PIPELINE[2]]
    prefix = dict(img_path='train', seg_map_path='trainannot')
    dataset = CamVidDataset(data_root=str(camvid), data_prefix=prefix, pipeline=pipeline)
    assert dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [*range(11), 255]


def test_iou_leaves_the_unlabelled_out(camvid):
    dataset = build(camvid)
    sample = dataset[0]['data_samples']
    predicted = sample.gt_sem_seg.data.clone()
    predicted[predicted == 255] = 3  # a prediction on unlabelled pixels must cost nothing
    predicted[predicted == 0] = 1  # sky is taken for building
    result = SegDataSample(gt_sem_seg=sample.gt_sem_seg, pred_sem_seg=PixelData(data=predicted))
    metric = IoUMetric()
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [result.to_dict()])
    scores = metric.evaluate(size=1)
    # 864 pixels, 72 of each label: sky 0, building 72 / 144, nine classes at 1
    assert scores['mIoU'] == pytest.approx(100 * (0 + 0.5 + 9) / 11, abs=0.01)
    assert torch.equal(sample.gt_sem_seg.data.unique(), torch.tensor([*range(11), 255]))


def test_part_of_the_classes(camvid):
    dataset = build(camvid, metainfo=dict(classes=('car', 'road')))
    values = dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist()
    assert values == [0, 1, 255]
    assert dataset.metainfo['palette'] == [[64, 0, 128], [128, 64, 128]]


def test_classes_have_a_colour_each():
    meta = CamVidDataset.METAINFO
    assert len(meta['classes']) == len(meta['palette']) == 11
    assert len({tuple(colour) for colour in meta['palette']}) == 11


def test_missing_label_is_named(camvid):
    (camvid / 'trainannot' / 'b.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'trainannot/b\.png \(1 in all\) is missing'):
        build(camvid)


def test_missing_image_is_named(camvid):
    (camvid / 'train' / 'c.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'Expected an image .*trainannot/c\.png'):
        build(camvid)


def test_missing_folder_is_named(camvid):
    with pytest.raises(FileNotFoundError, match=r'data folder .*nowhere.*data/README\.md'):
        CamVidDataset(data_root=str(camvid), data_prefix=dict(img_path='nowhere', seg_map_path='x'))


def test_empty_folders(camvid):
    for path in [*camvid.glob('*/*')]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match='found none'):
        build(camvid)


def test_same_image_twice(camvid):
    cv2.imwrite(str(camvid / 'train' / 'a.jpg'), np.zeros((24, 36, 3), np.uint8))
    with pytest.raises(ValueError, match=r'one file per label, but got both .*a\.jpg and .*a\.png'):
        build(camvid)


def test_list_of_files_is_refused(camvid):
    with pytest.raises(ValueError, match=r'no ann_file, but got .*train\.txt.*indices'):
        build(camvid, ann_file='train.txt')
