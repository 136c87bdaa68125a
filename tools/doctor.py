"""Check this machine for everything balkd_seg needs: `python tools/doctor.py`.

Prints each part as `ok`, `note` (optional and absent) or `wrong`, with the command that mends it.
The exit status is 1 if something is wrong, else 0. Run it from the folder you train in: data sets
are looked for below `./data`. With a GPU every form of the fused kernels that the configs use is
compiled and held to the chunked implementation, which takes minutes the first time.
"""

from __future__ import annotations  # runs, to complain, on any Python from 3.8 on

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from doctor_kernels import check_kernels
from doctor_packages import (
    INSTALL,
    PACKAGES,
    Finding,
    Package,
    as_numbers,
    check_mmcv,
    check_opencv,
    check_package,
    check_torch,
    check_triton,
    import_error,
    version_of,
)

# What a bare `mim test mmsegmentation` relies on, without balkd_seg being named.
STOCK_PROBE = (
    'import io, torch, mmseg.models; from mmengine.logging import HistoryBuffer; '
    'file = io.BytesIO(); torch.save(HistoryBuffer([1.0], [1]), file); '
    'file.seek(0); torch.load(file)'
)


def check_python() -> Finding:
    """Ask for CPython 3.10 or newer."""
    text = '.'.join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 10):  # noqa: UP036
        remedy = 'python3.11 -m venv .venv && . .venv/bin/activate'
        return Finding('wrong', 'python', f'{text}, older than 3.10', remedy)
    return Finding('ok', 'python', text)


def check_gpu() -> Finding:
    """Note whether PyTorch sees a GPU; none is needed."""
    if import_error('torch'):
        return Finding('note', 'gpu', 'not checked: torch does not import')
    import torch

    if torch.cuda.is_available():
        return Finding('ok', 'gpu', torch.cuda.get_device_name())
    if shutil.which('nvidia-smi') and not torch.version.cuda:
        remedy = f'pip install --force-reinstall torch=={torch.__version__.split("+")[0]}'
        return Finding('note', 'gpu', 'there, but this PyTorch is built for CPU', remedy)
    return Finding('note', 'gpu', 'none (optional): everything runs on the CPU')


def check_stock_commands() -> Finding:
    """Ask that `mim test mmsegmentation`, which never names balkd_seg, would run."""
    name = 'stock mim'
    for variable in ('BALKD_SEG_AUTOLOAD', 'TORCH_DEVICE_BACKEND_AUTOLOAD'):
        if os.environ.get(variable) == '0':
            text = f'{variable}=0 switches our entry point off: stock mmseg commands may fail'
            return Finding('note', name, text, f'unset {variable}')
    entries = metadata.entry_points().select(group='torch.backends')
    if not any(entry.value == 'balkd_seg.compat:autoload' for entry in entries):
        return Finding('wrong', name, 'the entry point for PyTorch is not installed', INSTALL)
    with tempfile.TemporaryDirectory() as elsewhere:
        run = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', STOCK_PROBE],
            cwd=elsewhere, capture_output=True, text=True, check=False,
        )  # fmt: skip
    torch = version_of('torch') or '0'
    if run.returncode and as_numbers(torch) < (2, 5):
        text = f'torch {torch} loads no entry points (2.5 does): with mmcv-lite, stock commands'
        return Finding('note', name, f'{text} only run configs that import balkd_seg')
    if run.returncode:
        text = (run.stderr.strip().splitlines() or ['killed'])[-1][:200]
        return Finding('wrong', name, f'mmseg alone does not run ({text})', INSTALL)
    return Finding('ok', name, 'mmseg imports and checkpoints load without balkd_seg being named')


def check_pairs(name: str, root: Path, folders: list, suffixes: tuple, remedies: tuple) -> Finding:
    """Look for a data set: absent is a note, an image or label without its partner is wrong.

    Args:
        name: Of the data set.
        root: Its folder.
        folders: (images, labels) of each split, below root.
        suffixes: Of images (a tuple) and of labels.
        remedies: What to do where it is absent, and where it is incomplete.
    """
    from balkd_seg.datasets.pairs import find_pairs, require_complete

    if not root.is_dir():
        return Finding('note', name, f'{root} is not there (optional)', remedies[0])
    counts = []
    for images, labels in folders:
        pair = str(root / images), str(root / labels)
        try:
            pairs = find_pairs(*pair, *suffixes)
            require_complete(pairs, *pair, suffixes[0])
        except (FileNotFoundError, ValueError) as error:
            return Finding('wrong', name, str(error), remedies[1])
        counts.append(f'{len(pairs.complete)} {Path(images).name}')
    return Finding('ok', name, f'{root}: {", ".join(counts)}')


def check_data(data: Path) -> Iterator[Finding]:
    """Look for the three data sets."""
    if import_error('balkd_seg'):
        yield Finding('note', 'data', 'not checked: balkd_seg does not import')
        return
    city = [(f'leftImg8bit/{split}', f'gtFine/{split}') for split in ('train', 'val')]
    city_suffixes = (('_leftImg8bit.png',), '_gtFine_labelTrainIds.png')
    readme = 'see data/README.md'
    root = data / 'cityscapes'
    train_ids = f'CITYSCAPES_DATASET={root} csCreateTrainIdLabelImgs (of cityscapesscripts)'
    yield check_pairs('cityscapes', root, city, city_suffixes, (readme, f'{train_ids}; {readme}'))
    splits = [(split, f'{split}annot') for split in ('train', 'val', 'test')]
    camvid = (('.png', '.jpg'), '.png')
    yield check_pairs('camvid', data / 'camvid', splits, camvid, (readme, readme))
    root = data / 'street_scenes'
    make = f'python tools/make_street_scenes.py --out {root}'
    yield check_pairs('street_scenes', root, city, city_suffixes, (make, f'{make} --force'))


def find_all(data: Path) -> Iterator[Finding]:
    """Run every check; one that breaks is itself a finding and stops none of the others."""
    checks: list[tuple[str, Callable]] = [('python', check_python), ('torch', check_torch)]
    checks += [('gpu', check_gpu), ('mmcv', check_mmcv), ('opencv', check_opencv)]
    checks += [(package.distribution, lambda p=package: check_package(p)) for package in PACKAGES]
    checks += [('triton', check_triton)]
    ours = Package('balkd_seg', 'balkd_seg')
    checks += [('balkd_seg', lambda: check_package(ours)._replace(remedy=INSTALL))]
    checks += [('stock mim', check_stock_commands), ('kernels', check_kernels)]
    checks += [('data', lambda: check_data(data))]
    for name, check in checks:
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else found
        except Exception as error:
            text = f'could not be checked ({type(error).__name__}: {error})'.splitlines()[0]
            yield Finding('wrong', name, text, INSTALL)


def main(argv: list[str] | None = None) -> int:
    """Print every finding; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, default=Path('data'), help='default: ./data')
    args = parser.parse_args(argv)
    wrong = 0
    for status, name, text, remedy in find_all(args.data):
        wrong += status == 'wrong'
        print(f'{status:<6} {name:<15} {text}', flush=True)
        if remedy and status != 'ok':
            print(f'{"":<22} -> {remedy}')
    print(f'{wrong} wrong' if wrong else 'Nothing is wrong.')
    return int(wrong > 0)


if __name__ == '__main__':
    sys.exit(main())
