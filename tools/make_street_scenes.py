"""Make a data set of procedural street scenes in the layout of Cityscapes.

    python tools/make_street_scenes.py --out data/street_scenes

MMSegmentation's own `CityscapesDataset` reads the result. A scene depends on the seed, its split, its
number and its size alone: more scenes, or more processes, change none that were there before.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from balkd_seg.datasets.street_scenes import draw_scene

SPLITS = ('train', 'val', 'test')
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
    """Draw one scene and write both files; the label, written last, marks it as complete."""
    split, index = scene
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    for path, picture in zip(scene_paths(out, split, index), draw_scene(rng, size), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        done, encoded = cv2.imencode('.png', picture)
        assert done
        part = path.with_suffix('.part')
        part.write_bytes(encoded.tobytes())
        part.replace(path)


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 512x256."""
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise argparse.ArgumentTypeError(
            f'expected WIDTHxHEIGHT in pixels of at least 32, such as 512x256, but got {text!r}'
        )
    return int(width), int(height)


def parse_count(text: str) -> int:
    """Read a number of scenes."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f'expected a number from 0 on, but got {text!r}')
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument('--train', type=parse_count, default=500, help='scenes (default 500)')
    parser.add_argument('--val', type=parse_count, default=100, help='scenes (default 100)')
    parser.add_argument('--test', type=parse_count, default=0, help='scenes (default 0)')
    parser.add_argument('--size', type=parse_size, default=(512, 256), help='default 512x256')
    parser.add_argument('--seed', type=parse_count, default=0, help='default 0')
    parser.add_argument('--workers', type=parse_count, default=os.cpu_count(), help='processes')
    parser.add_argument(
        '--force',
        action='store_true',
        help='write into a folder that holds scenes, replacing those of the same name',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the data set; return the exit status."""
    args = parse_args(argv)
    held = [
        str(args.out / name) for name in ('leftImg8bit', 'gtFine') if (args.out / name).exists()
    ]
    if held and not args.force:
        print(
            f'Expected a folder without data, but {" and ".join(held)} exist(s). '
            'Choose another --out, or --force to replace scenes of the same name',
            file=sys.stderr,
        )
        return 1
    counts = {split: getattr(args, split) for split in SPLITS}
    scenes = [(split, index) for split, count in counts.items() for index in range(count)]
    start = time.monotonic()
    work = partial(write_scene, args.out, args.seed, args.size)
    report_every = max(1, len(scenes) // 10)
    with ProcessPoolExecutor(
        max(1, min(args.workers, len(scenes))), initializer=_one_thread
    ) as pool:
        for number, _ in enumerate(pool.map(work, scenes, chunksize=8), start=1):
            if number % report_every == 0 or number == len(scenes):
                print(
                    f'{number}/{len(scenes)} scenes, {time.monotonic() - start:.0f} s', flush=True
                )
    made = ', '.join(f'{count} {split}' for split, count in counts.items())
    print(f'{args.out}: {made}, seed {args.seed}, {args.size[0]}x{args.size[1]}')
    return 0


def _one_thread() -> None:
    cv2.setNumThreads(1)


if __name__ == '__main__':
    sys.exit(main())
