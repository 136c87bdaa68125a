"""Refuse to train on half a data set."""

import os.path as osp

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from mmseg.registry import HOOKS
from torch.utils.data import Dataset

from balkd_seg.datasets.pairs import find_pairs, name_first, require_complete


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Check before the first iteration that every image has its label and the reverse.

    MMSegmentation lists the images only. A missing label then stops training whenever its image
    is drawn, hours later perhaps, and a label without an image is never noticed. The hook looks
    at names, not into files; `tools/check_data.py` reads them all.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Raise `FileNotFoundError` with the names of what the train or val set lacks."""
        loops = (runner.train_loop, runner.val_loop)
        for loop in loops:
            if loop is not None:
                for dataset in _segmentation_datasets(loop.dataloader.dataset):
                    check_dataset(dataset)


def check_dataset(dataset: BaseSegDataset) -> None:
    """Raise `FileNotFoundError` if a file of the data set has no partner.

    A data set behind a storage backend is left alone, and so is one without label folder.
    """
    folders = dataset.data_prefix.get('img_path'), dataset.data_prefix.get('seg_map_path')
    if dataset.backend_args or not all(folders):
        return
    if dataset.ann_file:
        samples = [dataset.get_data_info(index) for index in range(len(dataset))]
        paths = [sample[key] for sample in samples for key in ('img_path', 'seg_map_path')]
        missing = [path for path in paths if not osp.isfile(path)]
        if missing:
            raise FileNotFoundError(
                f'Expected every file that {dataset.ann_file} lists, but {name_first(missing)} '
                'missing. Complete the data set (data/README.md shows the expected folders)'
            )
        return
    suffixes = getattr(dataset, 'IMAGE_SUFFIXES', (dataset.img_suffix,))
    pairs = find_pairs(*folders, suffixes, dataset.seg_map_suffix)
    require_complete(pairs, *folders, suffixes)


def _segmentation_datasets(dataset: Dataset) -> list[BaseSegDataset]:
    """Return what wrappers such as `ConcatDataset` and `RepeatDataset` hold."""
    if isinstance(dataset, BaseSegDataset):
        return [dataset]
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [found for one in inner if one is not None for found in _segmentation_datasets(one)]
