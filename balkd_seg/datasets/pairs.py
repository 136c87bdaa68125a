"""Pair every image of a folder with its label file, and say which ones lack a partner."""

import os.path as osp
from typing import NamedTuple

from mmengine.fileio import list_dir_or_file

MAX_NAMED = 5


class Pairs(NamedTuple):
    """What a folder of images and a folder of labels hold together.

    Attributes:
        complete: (image path, label path) of each sample, sorted by image path.
        images_without_label: Label paths that were expected and are missing, sorted.
        labels_without_image: Label paths that no image belongs to, sorted.
    """

    complete: list[tuple[str, str]]
    images_without_label: list[str]
    labels_without_image: list[str]


def find_pairs(
    image_dir: str, label_dir: str, image_suffixes: tuple[str, ...], label_suffix: str
) -> Pairs:
    """Match images and labels by their path below the two folders, without the suffix.

    Args:
        image_dir: Folder of the images, searched recursively.
        label_dir: Folder of the labels, searched recursively.
        image_suffixes: Endings of an image's name; one folder may mix them.
        label_suffix: Ending of a label's name; files that end otherwise are left alone.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: Two images share one label.
    """
    images = _by_stem(image_dir, image_suffixes)
    labels = _by_stem(label_dir, (label_suffix,))
    return Pairs(
        complete=sorted((images[stem], labels[stem]) for stem in images.keys() & labels.keys()),
        images_without_label=sorted(
            osp.join(label_dir, stem + label_suffix) for stem in images.keys() - labels.keys()
        ),
        labels_without_image=sorted(labels[stem] for stem in labels.keys() - images.keys()),
    )


def require_complete(
    pairs: Pairs, image_dir: str, label_dir: str, image_suffixes: tuple[str, ...]
) -> None:
    """Raise unless there is at least one image and every file has its partner.

    Raises:
        FileNotFoundError: Names the first missing files and how many there are.
    """
    if pairs.images_without_label:
        raise FileNotFoundError(
            f'Expected a label in {label_dir} for every image in {image_dir}, but '
            f'{name_first(pairs.images_without_label)} missing. Complete the data set '
            '(data/README.md shows the expected folders)'
        )
    if pairs.labels_without_image:
        raise FileNotFoundError(
            f'Expected an image ({", ".join(image_suffixes)}) in {image_dir} for every label in '
            f'{label_dir}, but the image of {name_first(pairs.labels_without_image)} missing. '
            'Complete the data set (data/README.md shows the expected folders)'
        )
    if not pairs.complete:
        raise FileNotFoundError(
            f'Expected images ({", ".join(image_suffixes)}) in {image_dir}, but found none. '
            'See data/README.md for the expected folders'
        )


def name_first(paths: list[str]) -> str:
    """Return the first few paths and the count of all, ready for a message."""
    named = ', '.join(paths[:MAX_NAMED])
    rest = f' and {len(paths) - MAX_NAMED} more' if len(paths) > MAX_NAMED else ''
    return f'{named}{rest} ({len(paths)} in all) {"is" if len(paths) == 1 else "are"}'


def _by_stem(folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    if not osp.isdir(folder):
        raise FileNotFoundError(
            f'Expected the data folder {folder}, but there is none. Set data_root to where the '
            'data is; data/README.md says how to get each data set'
        )
    names = list(list_dir_or_file(folder, list_dir=False, suffix=suffixes, recursive=True))
    found: dict[str, str] = {}
    for name in sorted(names):
        stem = next(name[: -len(suffix)] for suffix in suffixes if name.endswith(suffix))
        path = osp.join(folder, name)
        if stem in found:
            raise ValueError(
                f'Expected one file per label, but got both {found[stem]} and {path}. Remove one'
            )
        found[stem] = path
    return found
