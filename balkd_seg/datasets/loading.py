"""Loading steps that name the file when an image or a label cannot be used."""

import os.path as osp

import mmcv
import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmseg.registry import TRANSFORMS
from PIL import Image

IGNORE_INDEX = 255
OPTIONAL_DECODERS = {'tifffile': 'tifffile', 'turbojpeg': 'PyTurboJPEG'}  # and their packages


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """MMCV's `LoadImageFromFile` whose error names the file that does not decode."""

    def transform(self, results: dict) -> dict:
        """Add `img`, (H, W, 3) uint8 BGR, and its shape.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is empty, truncated or no image, or its decoder is not installed.
        """
        path = results['img_path']
        try:
            return super().transform(results)
        except Exception as error:  # decoders raise whatever comes to them on damaged files
            if getattr(error, 'filename', None) is not None:
                raise  # of the file system, which names it; Pillow's have no name
            package = OPTIONAL_DECODERS.get(self.imdecode_backend)
            if package is None or not isinstance(error, AttributeError):
                raise ValueError(unreadable('image', path, error)) from error
            # mmcv has None in place of what it could not import
            raise ValueError(
                f'Expected the decoder of imdecode_backend={self.imdecode_backend!r} to be '
                f"installed, but it is not, for {path}. pip install {package}, or take 'cv2'"
            ) from error


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(BaseTransform):
    """MMSegmentation's `LoadAnnotations` that refuses a label no class stands for.

    A label outside [0, num_classes) that is neither 255 (ignored) nor named by the data set's
    `label_map` would train on garbage on a CPU and kill the process on a GPU. Differs from
    `LoadAnnotations` also in that wider integers than 8 bits are checked and not wrapped round (a
    `label_map` may name them: `{65535: 255}`), that fractions are refused and not cut off, and that
    a sample without `seg_map_path` (inference on a bare image) passes through.

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
        results['gt_seg_map'] = map_labels(labels, label_map)
        results['seg_fields'].append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes})'


def read_labels(path: str) -> np.ndarray:
    """Return the integers of a label file, in the dtype they are stored in: (H, W) uint8, say.

    One bit becomes uint8, whole floating numbers int64.

    Raises:
        ValueError: The file is empty, truncated or no image, or holds fractions or NaN.
    """
    content = fileio.get(path)
    try:
        labels = mmcv.imfrombytes(content, flag='unchanged', backend='pillow')
    except Exception as error:  # Pillow raises whatever comes to it on damaged files
        raise ValueError(unreadable('label', path, error)) from error
    if labels.dtype == bool:
        return labels.astype(np.uint8)
    if np.issubdtype(labels.dtype, np.floating):
        whole = np.nan_to_num(labels, nan=0.5, posinf=0.5, neginf=0.5)
        broken = whole != np.trunc(whole)
        if broken.any():
            raise ValueError(
                f'Expected whole numbers in the label file {path}, but got '
                f'{labels[broken][:3].tolist()} of {labels.dtype}. Write class numbers, as '
                f'8-bit integers, and {IGNORE_INDEX} where there is no label'
            )
        return whole.astype(np.int64)
    return labels


def map_labels(labels: np.ndarray, label_map: dict[int, int]) -> np.ndarray:
    """Return labels of any integer dtype as uint8, with those of `label_map` replaced.

    Raises:
        ValueError: `label_map` leads out of 8 bits.
    """
    wide = [f'{old}: {new}' for old, new in label_map.items() if not 0 <= new <= 255]
    if wide:
        raise ValueError(
            f'Expected `label_map` of the data set to lead to 0 to 255, but got {wide[:5]}. '
            f'Map what is to be ignored to {IGNORE_INDEX}'
        )
    if labels.dtype == np.uint8:
        lookup = np.arange(256, dtype=np.uint8)
        known = {old: new for old, new in label_map.items() if 0 <= old <= 255}
        lookup[list(known)] = list(known.values())
        return lookup[labels]
    mapped = labels.copy()
    for old, new in label_map.items():
        mapped[labels == old] = new
    return mapped.astype(np.uint8)


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


def unreadable(kind: str, path: str, error: Exception) -> str:
    """Return the message for a file that does not decode.

    Args:
        kind: `'image'` or `'label'`.
        path: The file.
        error: What the decoder raised.
    """
    size = osp.getsize(path) if osp.isfile(path) else 0
    remedy = 'It is empty, truncated or no image: fetch it again'
    if isinstance(error, Image.DecompressionBombError):
        remedy = 'If its size is right, cut it into tiles, or set PIL.Image.MAX_IMAGE_PIXELS = None'
    return (
        f'Expected a readable {kind} file, but {path} ({size} bytes) does not decode '
        f'({type(error).__name__}: {str(error).strip().rstrip(".")}). {remedy}'
    )
