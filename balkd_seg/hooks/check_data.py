"""Refuse to train on half a data set."""

import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from mmseg.registry import HOOKS

from balkd_seg.datasets.class_names import differences
from balkd_seg.datasets.pairs import find_pairs, name_first, require_complete
from balkd_seg.hooks._scores import check_monitored, tell_ignored_label

# What a sample names as files: also those of change detection and of depth
FILES = ('img_path', 'img_path2', 'seg_map_path', 'depth_map_path')


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Check before the first iteration that every image has its label and the reverse.

    MMSegmentation lists the images only. A missing label then stops training whenever its image
    is drawn, hours later perhaps, and a label without an image is never noticed. The hook looks
    at names, not into files; `tools/check_data.py` reads them all. It looks into every wrapper, and
    at the order of the classes in each data set of a `ConcatDataset`.

    Before a validation or test it also tells a `CalibrationMetric` without `ignore_index` which
    label does not count: the one that the network's head ignores.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the train and val set.

        Raises:
            FileNotFoundError: Names what one of them lacks.
            ValueError: If data sets that are joined have other classes, or a score is watched that
                there will not be.
        """
        check_monitored(runner)
        loops = (runner.train_loop, runner.val_loop)
        for loop in loops:
            if loop is not None:
                datasets = data_sets_in(loop.dataloader.dataset)
                for dataset in datasets:
                    check_dataset(dataset)
                check_classes(datasets)

    def before_val(self, runner: Runner) -> None:
        """Tell the metrics which label does not count."""
        tell_ignored_label(runner, runner.val_loop.evaluator)

    def before_test(self, runner: Runner) -> None:
        """Tell the metrics which label does not count."""
        tell_ignored_label(runner, runner.test_loop.evaluator)


def check_dataset(dataset: BaseDataset) -> None:
    """Raise `FileNotFoundError` if a file that the data set lists, or a label's image, is missing.

    The data set's own list is what counts, however it pairs images and labels. Where that is
    mmseg's way of going through two folders, labels that no image belongs to are found as well.
    What lies behind a storage backend is left alone.
    """
    if getattr(dataset, 'backend_args', None):
        return
    if _pairs_as_mmseg_does(dataset):
        folders = dataset.data_prefix['img_path'], dataset.data_prefix['seg_map_path']
        pairs = find_pairs(*folders, (dataset.img_suffix,), dataset.seg_map_suffix)
        require_complete(pairs, *folders, (dataset.img_suffix,))
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    if not samples:
        listed = ', '.join(str(x) for x in getattr(dataset, 'data_prefix', {}).values() if x)
        raise FileNotFoundError(
            f'Expected images in the {type(dataset).__name__}'
            f'{f" ({listed})" if listed else ""}, but it lists none. See data/README.md for the '
            'expected folders, or correct data_root, data_prefix and ann_file'
        )
    paths = {str(sample[key]) for sample in samples for key in FILES if sample.get(key)}
    missing = sorted(path for path in paths if not (in_storage(path) or osp.isfile(path)))
    if missing:
        source = getattr(dataset, 'ann_file', None) or f'the {type(dataset).__name__}'
        raise FileNotFoundError(
            f'Expected every file that {source} lists, but {name_first(missing)} missing. Complete '
            'the data set (data/README.md shows the expected folders)'
        )


def check_classes(datasets: Sequence[BaseDataset]) -> None:
    """Raise `ValueError` unless a label stands for the same class in all data sets.

    mmengine's `ConcatDataset` compares them itself, but not under `ignore_keys`. Names may differ
    in case, and in spaces, hyphens and underscores.
    """
    named = [(x, x.metainfo.get('classes')) for x in datasets if getattr(x, 'metainfo', None)]
    named = [(dataset, tuple(classes)) for dataset, classes in named if classes]
    for dataset, classes in named[1:]:
        first, expected = named[0]
        wrong = differences(expected, classes)
        if wrong:
            raise ValueError(
                f'Expected all data sets that are joined to have the same classes in the same '
                f'order, but {type(first).__name__} and {type(dataset).__name__} differ at label '
                f'{", ".join(wrong[:5])}. Give the latter the metainfo=dict(classes=...) of the '
                "former, which maps its labels, and the ConcatDataset ignore_keys=['label_map']; "
                'other names for the same classes belong into its METAINFO.'
            )


def _pairs_as_mmseg_does(dataset: BaseDataset) -> bool:
    """Return whether a data set lists all images of a folder, each with the label of its name."""
    stock = getattr(type(dataset), 'load_data_list', None) is BaseSegDataset.load_data_list
    if not stock or dataset.ann_file:
        return False
    labels = dataset.data_prefix.get('seg_map_path') or ''
    return labels != '' and not in_storage(labels)


def in_storage(path: str) -> bool:
    """Return whether mmengine reads a path with another backend than that of files."""
    return '://' in path


def data_sets_in(dataset: Any) -> list[BaseDataset]:
    """Return the data sets that list samples, within `ConcatDataset` and any other wrapper."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    inside = [found for one in inner if one is not None for found in data_sets_in(one)]
    return inside or ([dataset] if hasattr(dataset, 'get_data_info') else [])
