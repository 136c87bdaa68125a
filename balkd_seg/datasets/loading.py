"""Loading steps that name the file when an image or a label cannot be used."""

import os.path as osp

import cv2
import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmseg.registry import TRANSFORMS

IGNORE_INDEX = 255


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """MMCV's `LoadImageFromFile` whose error names the file that does not decode."""

    def transform(self, results: dict) -> dict:
        """Add `img`, (H, W, 3) uint8 BGR, and its shape.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is empty, truncated or no image.
        """
        try:
            return super().transform(results)
        except (AssertionError, cv2.error) as error:
            raise ValueError(unreadable('image', results['img_path'])) from error


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(BaseTransform):
    """MMSegmentation's `LoadAnnotations` that refuses a label no class stands for.

    A label outside [0, num_classes) that is neither 255 (ignored) nor named by the data set's
    `label_map` would train on garbage on a CPU and kill the process on a GPU. Differs from
    `LoadAnnotations` also in that wider integers than 8 bits are checked and not wrapped round,
    and that a sample without `seg_map_path` (inference on a bare image) passes through.

    Args:
        num_classes: Number of classes of the data set's own label files.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def transform(self, results: dict) -> dict:
        """Add `gt_seg_map`, (H, W) uint8 in [0, num_classes) or 255.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file does not decode, is not one channel of the image's size, or
                holds a label outside the classes.
        """
        path = results.get('seg_map_path')
        if path is None:
            return results
        if results.get('reduce_zero_label'):
            raise ValueError(
                'Expected reduce_zero_label=False, but got True. Use LoadAnnotations of '
                'MMSegmentation for data sets whose label 0 is to be ignored'
            )
        label_map = results.get('label_map') or {}
        labels = read_labels(path)
        check_labels(labels, path, self.num_classes, label_map, results.get('ori_shape'))
        lookup = np.arange(256, dtype=np.uint8)
        lookup[list(label_map)] = list(label_map.values())
        results['gt_seg_map'] = lookup[labels]
        results['seg_fields'].append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes})'


def read_labels(path: str) -> np.ndarray:
    """Return the label file as it is stored, for example (H, W) uint8.

    Raises:
        ValueError: The file is empty, truncated or no image.
    """
    try:
        return mmcv.imfrombytes(fileio.get(path), flag='unchanged', backend='pillow')
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # what Pillow raises on a damaged file
        raise ValueError(unreadable('label', path)) from error


def check_labels(
    labels: np.ndarray,
    path: str,
    num_classes: int,
    label_map: dict[int, int],
    shape: tuple[int, int] | None,
) -> None:
    """Raise `ValueError` with the file's name unless its labels can be used.

    Args:
        labels: As stored in the file.
        path: The file, for the message.
        num_classes: Labels in [0, num_classes) stand for a class; 255 is ignored.
        label_map: Labels that are also known, by what becomes of them.
        shape: (H, W) of the image, or None when there is none to compare with.
    """
    if labels.ndim != 2:
        raise ValueError(
            f'Expected one channel in the label file {path}, but got shape {labels.shape}. '
            'Use the file with class numbers, not the coloured one'
        )
    if shape is not None and labels.shape != tuple(shape):
        raise ValueError(
            f'Expected the label file {path} to have the size of its image, {tuple(shape)} '
            f'(H, W), but got {labels.shape}'
        )
    suspects = np.unique(labels[(labels >= num_classes) | (labels < 0)]).tolist()
    outside = [value for value in suspects if value not in (IGNORE_INDEX, *label_map)]
    if outside:
        raise ValueError(
            f'Expected labels in [0, {num_classes - 1}] or {IGNORE_INDEX} in the label file '
            f'{path}, but got {outside[:10]}. Correct the file, or num_classes in the config'
        )


def unreadable(kind: str, path: str) -> str:
    """Return the message for a file that does not decode."""
    size = osp.getsize(path) if osp.isfile(path) else 0
    return (
        f'Expected a readable {kind} file, but {path} ({size} bytes) does not decode. It is '
        'empty, truncated or no image: fetch it again'
    )
