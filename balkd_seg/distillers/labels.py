"""Labels that are neither a class nor ignored, and where they come from."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from balkd_seg.datasets.loading import IGNORE_INDEX


def check_labels(
    target: Tensor, data_samples: Sequence, network: Any, num_classes: int, ignored: int
) -> None:
    """Raise ValueError if a label of a batch is neither a class nor ignored; names the images.

    Args:
        target: Labels, (N, H, W).
        data_samples: N `SegDataSample`.
        network: The segmentor whose data preprocessor made the batch.
        num_classes: Labels below are classes.
        ignored: The label that its head ignores.
    """
    wrong = (target != ignored) & ((target < 0) | (target >= num_classes))
    if not bool(wrong.any()):
        return
    bad = wrong.flatten(1).any(1).tolist()
    samples = [sample for sample, is_bad in zip(data_samples, bad, strict=True) if is_bad]
    files = [str(getattr(x, 'seg_map_path', None) or getattr(x, 'img_path', '?')) for x in samples]
    values = sorted(set(target[wrong].tolist()))
    raise ValueError(
        f'Expected labels from 0 to {num_classes - 1} or the ignored {ignored}, but got '
        f'{values[:5]} in {", ".join(files)}. {_remedy(values, samples, network, ignored)}'
    )


def _remedy(values: list[int], samples: Sequence, network: Any, ignored: int) -> str:
    """Say what to change: what fills, if labels are filled with another value, else the files."""
    preprocessor = network.data_preprocessor
    filled = getattr(preprocessor, 'seg_pad_val', None)
    if values == [filled] and any(any(getattr(x, 'padding_size', ())) for x in samples):
        return (
            f'The data preprocessor pads these images, and their labels with {filled}: set '
            f'seg_pad_val={ignored} in its config (data_preprocessor), as the head ignores '
            f'{ignored}.'
        )
    if values == [IGNORE_INDEX]:
        return (
            f'{IGNORE_INDEX} is what mmseg puts for ignored pixels (reduce_zero_label, label maps, '
            f'transforms that pad), but the head ignores {ignored}: set seg_pad_val={ignored} in '
            f'the transforms that pad, or ignore_index={IGNORE_INDEX} in the heads.'
        )
    return 'Check the label map of the data set (tools/check_data.py).'
