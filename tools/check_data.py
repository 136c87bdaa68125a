"""Read every file of a data set and say what is wrong with it.

    python tools/check_data.py cityscapes --data-root data/cityscapes

For each split: how many pairs there are, which images or labels are missing, do not decode, differ
in size, or hold labels outside the classes; then how often each class occurs. The exit status is 0
if nothing is wrong, else 1. `data/README.md` shows the expected folders.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from mmseg.datasets import CityscapesDataset

from balkd_seg.datasets import CamVidDataset, LoadCheckedImage
from balkd_seg.datasets.loading import IGNORE_INDEX, check_labels, read_labels
from balkd_seg.datasets.pairs import Pairs, find_pairs


class Layout(NamedTuple):
    """Where a data set keeps its files, and what its labels mean.

    Attributes:
        images: Folder of a split's images below the root.
        labels: Folder of a split's labels.
        image_suffixes: Endings of an image's name.
        label_suffix: Ending of a label's name.
        classes: Names of the classes by label.
        label_map: Further labels that are allowed, by what they become.
    """

    images: str
    labels: str
    image_suffixes: tuple[str, ...]
    label_suffix: str
    classes: tuple[str, ...]
    label_map: dict[int, int]


class Sample(NamedTuple):
    """What one image and its label hold: what is wrong, (H, W), and pixels by label value."""

    problem: str | None
    shape: tuple[int, int] | None
    pixels: np.ndarray


CITYSCAPES = Layout(
    'leftImg8bit/{split}',
    'gtFine/{split}',
    ('_leftImg8bit.png',),
    '_gtFine_labelTrainIds.png',
    CityscapesDataset.METAINFO['classes'],
    {},
)
LAYOUTS = {
    'cityscapes': CITYSCAPES,
    'street_scenes': CITYSCAPES,
    'camvid': Layout(
        '{split}',
        '{split}annot',
        CamVidDataset.IMAGE_SUFFIXES,
        '.png',
        CamVidDataset.METAINFO['classes'],
        CamVidDataset.get_label_map(),
    ),
}
NO_PIXELS = np.zeros(256, np.int64)


def check_sample(layout: Layout, pair: tuple[str, str]) -> Sample:
    """Read one image and its label."""
    image_path, label_path = pair
    try:
        shape = LoadCheckedImage()({'img_path': image_path})['img_shape']
        labels = read_labels(label_path)
        check_labels(labels, label_path, len(layout.classes), layout.label_map, shape)
    except (OSError, ValueError) as error:
        return Sample(str(error), None, NO_PIXELS)
    return Sample(None, shape, np.bincount(labels.ravel(), minlength=256))


def check_split(layout: Layout, root: Path, split: str, show: int, workers: int) -> int:
    """Print what a split holds; return the number of problems."""
    folders = [str(root / part.format(split=split)) for part in (layout.images, layout.labels)]
    print(f'\n{split}: {folders[0]}, {folders[1]}')
    try:
        pairs = find_pairs(*folders, layout.image_suffixes, layout.label_suffix)
    except (FileNotFoundError, ValueError) as error:
        print(f'  PROBLEM {error}')
        return 1
    with ThreadPoolExecutor(workers) as pool:
        samples = list(pool.map(partial(check_sample, layout), pairs.complete))
    sizes = Counter(sample.shape for sample in samples if sample.shape is not None)
    listed = ', '.join(f'{w}x{h} ({count})' for (h, w), count in sizes.most_common(5))
    print(f'  {len(pairs.complete)} images with label; sizes: {listed or "none"}')
    problems = find_problems(pairs, samples)
    for problem in problems[:show]:
        print(f'  PROBLEM {problem}')
    if len(problems) > show:
        print(f'  ... and {len(problems) - show} more (--show {len(problems)} lists them all)')
    print_classes(layout, samples)
    return len(problems)


def find_problems(pairs: Pairs, samples: list[Sample]) -> list[str]:
    """Return one line for everything that is wrong."""
    nothing = not (pairs.complete or pairs.images_without_label or pairs.labels_without_image)
    return [
        *(['there is neither an image nor a label'] if nothing else []),
        *(f'no label for an image: {path} is missing' for path in pairs.images_without_label),
        *(f'no image for the label {path}' for path in pairs.labels_without_image),
        *(sample.problem for sample in samples if sample.problem is not None),
    ]


def print_classes(layout: Layout, samples: list[Sample]) -> None:
    """Print for each class its share of the pixels and the images that show it."""
    pixels = np.stack([NO_PIXELS, *(sample.pixels for sample in samples)])
    for old, new in layout.label_map.items():
        if new != old:
            pixels[:, new] += pixels[:, old]
            pixels[:, old] = 0
    total, images = max(pixels.sum(), 1), (pixels > 0).sum(axis=0)
    names = dict(enumerate(layout.classes)) | {IGNORE_INDEX: '(ignored)'}
    print(f'  {"class":<14} {"pixels":>7}  images')
    for label, name in names.items():
        share = pixels[:, label].sum() / total
        note = '  <- does not occur' if images[label] == 0 and label != IGNORE_INDEX else ''
        print(f'  {name:<14} {share:>7.2%}  {images[label]:>6}{note}')


def present_splits(layout: Layout, exists: Callable[[str], bool]) -> list[str]:
    """Return train and val, which must be there, and test if it is."""
    return ['train', 'val', *(['test'] if exists(layout.labels.format(split='test')) else [])]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('dataset', choices=list(LAYOUTS))
    parser.add_argument('--data-root', type=Path, help='default: data/DATASET')
    parser.add_argument('--splits', nargs='+', help='default: train, val, and test if there is one')
    parser.add_argument('--show', type=int, default=10, help='problems to list for each split')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='threads')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Check a data set; return the exit status."""
    args = parse_args(argv)
    layout = LAYOUTS[args.dataset]
    root = args.data_root or Path('data') / args.dataset
    splits = args.splits or present_splits(layout, lambda folder: (root / folder).is_dir())
    count = sum(check_split(layout, root, split, args.show, args.workers) for split in splits)
    print(f'\n{args.dataset}: {f"{count} problem(s)" if count else "ok"}')
    return 1 if count else 0


if __name__ == '__main__':
    sys.exit(main())
