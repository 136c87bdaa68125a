"""Make a data set of procedural street scenes in the layout of Cityscapes.

    python tools/make_street_scenes.py --out data/street_scenes

MMSegmentation's own `CityscapesDataset` reads the result. A scene depends on the seed, its split,
its number and its size alone, not on how many scenes or processes there are. Scenes that are there
already are kept: the same command continues what was interrupted, larger counts add to it.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path

import cv2
import numpy as np

import balkd_seg
from balkd_seg.datasets.street_scenes import draw_scene

SPLITS = ('train', 'val', 'test')
FOLDERS = ('leftImg8bit', 'gtFine')
RECIPE = 'recipe.json'  # what the scenes of a folder were made from
SCENES_A_CITY = 500


def scene_paths(out: Path, split: str, index: int) -> tuple[Path, Path]:
    """Return where the image and the label of one scene go."""
    city = f'block{index // SCENES_A_CITY:03d}'
    stem = f'{city}_{index:06d}_000019'
    return (
        out / 'leftImg8bit' / split / city / f'{stem}_leftImg8bit.png',
        out / 'gtFine' / split / city / f'{stem}_gtFine_labelTrainIds.png',
    )


def write_scene(out: Path, seed: int, size: tuple[int, int], scene: tuple[str, int]) -> None:
    """Draw one scene and write its image and label, each in one step."""
    split, index = scene
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    for path, picture in zip(scene_paths(out, split, index), draw_scene(rng, size), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix('.part')
        part.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
        part.replace(path)


def prepare(out: Path, recipe: dict, force: bool) -> None:
    """Make sure that `out` holds nothing but scenes of this recipe.

    Raises:
        ValueError: It holds other data. With `force`, other scenes of this tool are removed, but
            never data that this tool did not make.
    """
    held = [out / name for name in FOLDERS if (out / name).exists()]
    made_here = (out / RECIPE).is_file()
    if held and not made_here:
        raise ValueError(
            f'Expected no data in {out}, but found {held[0]}, which this tool did not make '
            f'(there is no {RECIPE}). Choose another --out'
        )
    found = json.loads((out / RECIPE).read_text()) if made_here else recipe
    if found != recipe:
        if not force:
            raise ValueError(
                f'Expected scenes of {recipe} in {out}, but found scenes of {found}. Choose '
                'another --out, or --force to remove them'
            )
        for folder in held:
            shutil.rmtree(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / RECIPE).write_text(json.dumps(recipe) + '\n')


def draw_all(draw: partial, scenes: list[tuple[str, int]], workers: int) -> None:
    """Draw scenes in this or in more processes, and say how far it is."""
    start = time.monotonic()

    def report(done: Iterable) -> None:
        for number, _ in enumerate(done, start=1):
            if number % max(1, len(scenes) // 10) == 0 or number == len(scenes):
                print(
                    f'{number}/{len(scenes)} scenes, {time.monotonic() - start:.0f} s', flush=True
                )

    cv2.setNumThreads(1)  # the scenes are the parallel part; threads would also break a fork
    if workers > 1 and 'fork' in get_all_start_methods():
        # fork: starting anew would import PyTorch once more for every process
        with ProcessPoolExecutor(workers, get_context('fork')) as pool:
            report(pool.map(draw, scenes, chunksize=4))
    else:
        report(map(draw, scenes))


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 512x256."""
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise argparse.ArgumentTypeError(
            f'expected WIDTHxHEIGHT in pixels of at least 32, such as 512x256, but got {text!r}'
        )
    return int(width), int(height)


def parse_count(text: str) -> int:
    """Read a whole number from 0 on."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f'expected a whole number from 0 on, but got {text!r}')
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = partial(parser.add_argument, type=parse_count)
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    add('--train', default=500, help='number of scenes (default: %(default)s)')
    add('--val', default=100, help='number of scenes (default: %(default)s)')
    add('--test', default=0, help='number of scenes (default: %(default)s)')
    add('--seed', default=0, help='default: %(default)s')
    add('--workers', default=os.cpu_count(), help='processes (default: %(default)s)')
    parser.add_argument(
        '--size', type=parse_size, default=(512, 256), help='WIDTHxHEIGHT (default: 512x256)'
    )
    parser.add_argument(
        '--force', action='store_true', help='remove scenes of another seed or size in --out'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the data set; return the exit status."""
    args = parse_args(argv)
    recipe = {'seed': args.seed, 'size': list(args.size), 'version': balkd_seg.__version__}
    try:
        prepare(args.out, recipe, args.force)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    counts = {split: getattr(args, split) for split in SPLITS}
    missing = [
        (split, index)
        for split, count in counts.items()
        for index in range(count)
        if not all(path.exists() for path in scene_paths(args.out, split, index))
    ]
    draw_all(partial(write_scene, args.out, args.seed, args.size), missing, args.workers)
    wanted = ', '.join(f'{count} {split}' for split, count in counts.items())
    print(f'{args.out}: {wanted}; {len(missing)} new, {sum(counts.values()) - len(missing)} kept')
    return 0


if __name__ == '__main__':
    sys.exit(main())
