import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmseg.datasets import CityscapesDataset

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
        return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))

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


@pytest.mark.parametrize(
    'wrap', [lambda dataset: ConcatDataset([dataset]), lambda dataset: RepeatDataset(dataset, 2)]
)
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


def test_storage_backend_is_left_alone(root):
    dataset = cityscapes(root, backend_args=dict(backend='local'))
    (root / 'ann' / 'town' / 'town_0_gtFine_labelTrainIds.png').unlink()
    run_hook(dataset)


def test_other_datasets_are_left_alone():
    run_hook([1, 2, 3])
