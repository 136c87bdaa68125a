"""Which validation images a report shows, and how: what each network sees, where they differ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from methods_plan import ALONE, TEACHER
from methods_state import DONE

CASES = 3  # best, and as many worst
BOTH, OURS, THEIRS, NEITHER = '#e5e7eb', '#15803d', '#b91c1c', '#f59e0b'
LEGEND = {
    BOTH: 'both right',
    OURS: 'only the distilled one is right',
    THEIRS: 'only the student alone is right',
    NEITHER: 'both wrong',
    '#ffffff': 'not labelled',
}


class Case(NamedTuple):
    """An image of the gallery: what it shows, and kind and content of pictures by caption."""

    title: str
    pictures: dict[str, tuple[str, bytes]]


def pick_method(results: dict[str, Any]) -> str | None:
    """Return the method of the best mean val mIoU, None if there is nothing to compare."""
    others = [
        method
        for method in results['methods']
        if method['name'] not in (ALONE, TEACHER) and method['val']['n']
    ]
    return max(others, key=lambda m: m['val']['mean'])['name'] if others else None


def make_cases(work: Path, results: dict[str, Any]) -> list[Case]:
    """Return the images where the best method gains most over the student alone, and loses most."""
    method = pick_method(results)
    folders = {
        (run['name'], run['seed']): work / run['folder'] / 'predictions'
        for run in results['runs']
        if run['status'] == DONE
    }
    seeds = sorted(seed for name, seed in folders if name == method and (ALONE, seed) in folders)
    if not seeds:
        return []
    shown = {
        TEACHER: folders.get((TEACHER, None)),
        ALONE: folders[ALONE, seeds[0]],
        method: folders[method, seeds[0]],
    }
    gains = []
    for file in sorted((work / 'gallery').glob('*_truth.png')):
        index = file.name.split('_')[0]
        truth = read(file)
        ours, theirs = (read(shown[name] / f'{index}.png') for name in (method, ALONE))
        labelled = truth != results['ignore_index']
        gained = (ours == truth)[labelled].sum() - (theirs == truth)[labelled].sum()
        gains.append((float(gained / max(int(labelled.sum()), 1)), index))
    gains.sort(reverse=True)
    chosen = gains[:CASES] + gains[max(CASES, len(gains) - CASES) :]
    palette = make_palette(results)
    return [
        Case(
            f'{gain:+.1%} of pixels right, {method} against {ALONE} (seed {seeds[0]})',
            make_pictures(work / 'gallery', index, shown, palette, results['ignore_index']),
        )
        for gain, index in chosen
    ]


def read(file: Path) -> np.ndarray:
    """Return a label map."""
    labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise ValueError(f'Expected a label map at {file}, but it cannot be read.')
    return labels


def make_palette(results: dict[str, Any]) -> np.ndarray:
    """Return the colour (B, G, R) of each label, black where pixels are not labelled."""
    colours = np.zeros((256, 3), np.uint8)
    classes = len(results['classes'])
    known = results['palette'] or np.random.default_rng(0).integers(40, 256, (classes, 3))
    colours[:classes] = np.array(known)[:, ::-1]
    return colours


def make_pictures(
    gallery: Path, index: str, shown: dict[str, Path | None], palette: np.ndarray, ignored: int
) -> dict[str, tuple[str, bytes]]:
    """Return the pictures of one image."""
    truth = read(gallery / f'{index}_truth.png')
    image = cv2.imread(str(gallery / f'{index}_image.png'))
    pictures = {'image': image, 'truth': palette[truth] * (truth != ignored)[..., None]}
    maps = {n: read(folder / f'{index}.png') for n, folder in shown.items() if folder is not None}
    pictures |= {name: palette[labels] for name, labels in maps.items()}
    *_, theirs, ours = maps.values()
    pictures['where they differ'] = disagreement(truth, theirs, ours, ignored)
    return {name: encode(picture, photo=name == 'image') for name, picture in pictures.items()}


def disagreement(
    truth: np.ndarray, theirs: np.ndarray, ours: np.ndarray, ignored: int
) -> np.ndarray:
    """Return a picture (B, G, R) of where the distilled student and the one alone are right."""
    right, other = ours == truth, theirs == truth
    picture = np.full((*truth.shape, 3), 255, np.uint8)
    for colour, where in (
        (BOTH, right & other), (OURS, right & ~other), (THEIRS, ~right & other),
        (NEITHER, ~right & ~other),
    ):  # fmt: skip
        picture[where & (truth != ignored)] = list(bytes.fromhex(colour[1:]))[::-1]
    return picture


def encode(picture: np.ndarray, photo: bool) -> tuple[str, bytes]:
    """Return the kind and content of a picture: a PNG, or a JPEG of what would be large as one."""
    kind, how = ('jpeg', [cv2.IMWRITE_JPEG_QUALITY, 85]) if photo else (
        'png', [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )  # fmt: skip
    done, encoded = cv2.imencode(f'.{kind}', picture, how)
    assert done
    return kind, encoded.tobytes()


def class_chips(results: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the colour and name of each class."""
    palette = make_palette(results)
    names = results['classes']
    return [('#' + bytes(palette[i][::-1]).hex(), name) for i, name in enumerate(names)]
