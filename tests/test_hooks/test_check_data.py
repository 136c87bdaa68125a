import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmseg.datasets import BaseSegDataset, CityscapesDataset, MultiImageMixDataset
from torch.utils.data import Subset

from balkd_seg.hooks import CheckDataHook


@pytest.fixture
def root(tmp_path):
    """Return a folder of two frames, cut down from the layout of Cityscapes."""
    root = tmp_path / 'train'
    for folder, ending in (('img', 'leftImg8bit'), ('ann', 'gtFine_labelTrainIds')):
        (root / folder / 'town').mkdir(parents=True)
        for frame in ('town_0', 'town_1'):
            path = root / folder / 'town' / f'{frame}_{ending}.png'
            cv2.imwrite(str(path), np.zeros((4, 8), np.uint8))
    return root


def cityscapes(root, **overrides):
    prefix = dict(img_path='img', seg_map_path='ann')
    return CityscapesDataset(**dict(dict(data_root=str(root), data_prefix=prefix), **overrides))


def run_hook(train, val=None):
    def loop(dataset):
        evaluator = SimpleNamespace(metrics=[])
        return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset), evaluator=evaluator)

    runner = SimpleNamespace(train_loop=loop(train), val_loop=val and loop(val))
    CheckDataHook().before_train(runner)


def test_complete_data_passes(root):
    run_hook(cityscapes(root), cityscapes(root))


def test_missing_label_is_named(root):
    (root / 'ann' / 'town' / 'town_1_gtFine_labelTrainIds.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'town_1_gtFine_labelTrainIds\.png \(1 in all\)'):
        run_hook(cityscapes(root))


def test_val_is_checked_too(root, tmp_path):
    shutil.copytree(root, tmp_path / 'val')
    train, val = cityscapes(root), cityscapes(tmp_path / 'val')
    (tmp_path / 'val' / 'img' / 'town' / 'town_0_leftImg8bit.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'the image of .*val/ann/town/town_0_gtFine'):
        run_hook(train, val)


def balanced(dataset):
    dataset.get_cat_ids = lambda index: [index % 2]
    return ClassBalancedDataset(dataset, 1e-3)


def mosaic(dataset):
    return MultiImageMixDataset(ConcatDataset([dataset]), pipeline=[])


WRAPPERS = [
    lambda dataset: ConcatDataset([dataset]),
    lambda dataset: RepeatDataset(dataset, 2),
    balanced,
    mosaic,
    lambda dataset: Subset(mosaic(dataset), [0]),
]


@pytest.mark.parametrize('wrap', WRAPPERS)
def test_inside_wrappers(root, wrap):
    dataset = cityscapes(root)
    (root / 'ann' / 'town' / 'town_0_gtFine_labelTrainIds.png').unlink()
    with pytest.raises(FileNotFoundError, match='town_0_gtFine'):
        run_hook(wrap(dataset))


def test_list_of_files(root):
    (root / 'list.txt').write_text('town/town_0\ntown/town_7\n')
    with pytest.raises(FileNotFoundError, match=r'list\.txt lists, but .*img/town/town_7.*\(2 in'):
        run_hook(cityscapes(root, ann_file='list.txt'))
    (root / 'list.txt').write_text('town/town_0\n')
    run_hook(cityscapes(root, ann_file='list.txt'))


class Numbered(BaseSegDataset):
    """Pairs rgb_N.png with label_N.png, in a list of its own."""

    METAINFO: ClassVar[dict] = dict(classes=('road', 'car'), palette=[[0, 0, 0], [1, 1, 1]])

    def load_data_list(self):
        folder = Path(self.data_prefix['img_path'])
        return [
            dict(
                img_path=str(image),
                seg_map_path=str(image.with_name(image.name.replace('rgb', 'label'))),
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for image in sorted(folder.glob('rgb_*.png'))
        ]


class Renamed(Numbered):
    METAINFO: ClassVar[dict] = dict(classes=('car', 'road'), palette=[[0, 0, 0], [1, 1, 1]])


class Respelt(Numbered):
    METAINFO: ClassVar[dict] = dict(classes=('Road', 'CAR'), palette=[[0, 0, 0], [1, 1, 1]])


@pytest.fixture
def numbered(tmp_path):
    """Return a function that lists a folder of two frames, numbered in both names."""
    for number in range(2):
        for kind in ('rgb', 'label'):
            (tmp_path / f'{kind}_{number}.png').touch()
    prefix = dict(img_path=str(tmp_path), seg_map_path=str(tmp_path))
    return lambda kind=Numbered, **settings: kind(**{'data_prefix': prefix, **settings})


def test_the_data_sets_own_list_is_what_counts(numbered, tmp_path):
    run_hook(numbered())
    (tmp_path / 'label_1.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'the Numbered lists, but .*label_1\.png \(1 in'):
        run_hook(ConcatDataset([numbered()]))


def test_a_data_set_that_lists_nothing_is_named(numbered, root):
    prefix = dict(img_path='img')
    with pytest.raises(FileNotFoundError, match=r'in the Numbered \(.*but it lists none'):
        run_hook(numbered(data_root=str(root), data_prefix=prefix, serialize_data=False))


def test_a_part_of_the_data_may_be_left_out(root):
    run_hook(cityscapes(root, indices=1))


def test_images_without_labels_are_left_alone(root):
    run_hook(cityscapes(root, data_prefix=dict(img_path='img')))


def joined(*datasets):
    return ConcatDataset(datasets, ignore_keys=['classes', 'label_map'])


def test_classes_in_another_order_are_refused_in_every_part(numbered):
    with pytest.raises(ValueError, match=r'Numbered and Renamed differ at label 0: road / car, 1'):
        run_hook(Subset(joined(numbered(), numbered(), numbered(Renamed)), [0]))
    with pytest.raises(ValueError, match=r'metainfo=dict\(classes=\.\.\.\)'):
        run_hook(numbered(), joined(numbered(), numbered(Renamed)))
    ordered = numbered(Renamed, metainfo=dict(classes=('road', 'car')))
    assert ordered.label_map == {0: 1, 1: 0}
    run_hook(joined(numbered(), ordered))


def test_spelling_makes_no_other_class(numbered):
    run_hook(joined(numbered(), numbered(Respelt)))


def test_storage_backend_is_left_alone(root):
    dataset = cityscapes(root, backend_args=dict(backend='local'))
    (root / 'ann' / 'town' / 'town_0_gtFine_labelTrainIds.png').unlink()
    run_hook(dataset)


def test_what_lies_in_a_storage_is_left_alone(root):
    """Mmengine goes by what stands before '://', without `backend_args`."""
    dataset = cityscapes(root)
    dataset.data_prefix = dict(img_path='s3://bucket/img', seg_map_path='s3://bucket/ann')
    listed = dataset.get_data_info(0)
    listed.update(img_path='s3://bucket/img/0.png', seg_map_path='s3://bucket/ann/0.png')
    dataset.get_data_info = lambda index: listed
    run_hook(dataset)


def test_other_datasets_are_left_alone():
    run_hook([1, 2, 3])
