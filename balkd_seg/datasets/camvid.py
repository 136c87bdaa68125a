"""CamVid: 11 classes of driving frames, in the folders of the SegNet tutorial."""

from collections.abc import Sequence
from typing import ClassVar

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .pairs import find_pairs, require_complete

UNLABELLED = 11


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid with the 11 classes of SegNet; label 11 (unlabelled) is ignored.

    Label 11 becomes 255 through MMSegmentation's own `label_map` while labels are loaded, so
    training and evaluation ignore it with the usual `ignore_index=255`. Images may be `.png`
    (as published) or `.jpg`, also mixed in one folder; labels are `.png`. An image without its
    label, or a label without its image, raises `FileNotFoundError` when the data set is built.

    `data_prefix` names the two folders of a split, for example
    `dict(img_path='train', seg_map_path='trainannot')`.

    Reference: Badrinarayanan et al., SegNet, https://arxiv.org/abs/1511.00561
    """

    METAINFO: ClassVar[dict] = {
        'classes': (
            'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car',
            'pedestrian', 'bicyclist',
        ),
        'palette': [
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
            [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0],
            [0, 128, 192],
        ],
    }  # fmt: skip
    IMAGE_SUFFIXES = ('.png', '.jpg')

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map every label of a file to a class of `new_classes`, and the unlabelled to 255."""
        identity = {label: label for label in range(len(cls.METAINFO['classes']))}
        label_map = super().get_label_map(new_classes) or identity
        return {**label_map, UNLABELLED: 255}

    def load_data_list(self) -> list[dict]:
        """List the samples of the two folders, sorted by image path.

        Raises:
            FileNotFoundError: A folder, a label or an image is missing.
            ValueError: `ann_file` is set, or an image is there both as `.png` and as `.jpg`.
        """
        if self.ann_file:
            raise ValueError(
                f'Expected no ann_file, but got {self.ann_file!r}: CamVidDataset reads all of '
                'the two folders in data_prefix. Use `indices` for a part of them'
            )
        folders = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        pairs = find_pairs(*folders, self.IMAGE_SUFFIXES, self.seg_map_suffix)
        require_complete(pairs, *folders, self.IMAGE_SUFFIXES)
        return [
            {
                'img_path': image,
                'seg_map_path': label,
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
            }
            for image, label in pairs.complete
        ]
