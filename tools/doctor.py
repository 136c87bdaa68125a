"""Check this machine for everything balkd_seg needs: `python tools/doctor.py`.

Prints each part as `ok`, `note` (optional and absent) or `wrong`, with the command that mends it.
The exit status is 1 if something is wrong, else 0. Run it from the folder you train in: data sets
are looked for below `./data`.
"""

from __future__ import annotations  # runs, to complain, on any Python from 3.8 on

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

INSTALL = "pip install -c constraints.txt -e '.[lite]'"
# What a bare `mim test mmsegmentation` relies on, without balkd_seg being named.
STOCK_PROBE = (
    'import io, torch, mmseg.models; from mmengine.logging import HistoryBuffer; '
    'file = io.BytesIO(); torch.save(HistoryBuffer([1.0], [1]), file); '
    'file.seek(0); torch.load(file)'
)


class Finding(NamedTuple):
    """What became of one check: `status` is `ok`, `note` or `wrong`."""

    status: str
    name: str
    text: str
    remedy: str = ''


class Package(NamedTuple):
    """A distribution, the module it gives, and its versions that work: [lowest, below)."""

    distribution: str
    module: str
    lowest: str = ''
    below: str = ''
    optional: bool = False

    @property
    def remedy(self) -> str:
        """Return the command that installs it."""
        limits = [f'>={self.lowest}'] * bool(self.lowest) + [f'<{self.below}'] * bool(self.below)
        return f"pip install -c constraints.txt '{self.distribution}{','.join(limits)}'"


PACKAGES = (
    Package('mmengine', 'mmengine', '0.10.7'),
    Package('mmsegmentation', 'mmseg', '1.2.2'),
    Package('setuptools', 'pkg_resources', '77.0.3', '81'),
    Package('openmim', 'mim', '0.3.9'),
    Package('ftfy', 'ftfy'),
    Package('regex', 'regex'),
    Package('onnx', 'onnx', optional=True),
    Package('onnxruntime', 'onnxruntime', optional=True),
    Package('triton', 'triton', optional=True),
)


def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def as_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, to compare: '2.13.0+cpu' gives (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r'[\d.]*', version).group().split('.') if part)


def import_error(module: str) -> str:
    """Import a module; return '' or the first line of what it raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            importlib.import_module(module)
    except Exception as error:
        return f'{type(error).__name__}: {error}'.splitlines()[0][:200]
    return ''


def check_python() -> Finding:
    """Ask for CPython 3.10 or newer."""
    text = '.'.join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 10):  # noqa: UP036
        remedy = 'python3.11 -m venv .venv && . .venv/bin/activate'
        return Finding('wrong', 'python', f'{text}, older than 3.10', remedy)
    return Finding('ok', 'python', text)


def check_package(package: Package) -> Finding:
    """Ask for a version within the limits that imports."""
    name, installed = package.distribution, version_of(package.distribution)
    bad = 'note' if package.optional else 'wrong'
    if installed is None:
        return Finding(bad, name, 'not installed', package.remedy)
    if (
        not as_numbers(package.lowest)
        <= as_numbers(installed)
        < as_numbers(package.below or '9999')
    ):
        wanted = f'from {package.lowest}' + f' and below {package.below}' * bool(package.below)
        return Finding(bad, name, f'{installed}, expected {wanted}', package.remedy)
    error = import_error(package.module)
    if error:
        again = package.remedy.replace('pip install', 'pip install --force-reinstall --no-deps')
        return Finding(bad, name, f'{installed}, does not import ({error})', again)
    return Finding('ok', name, installed)


def check_torch() -> Finding:
    """Ask for PyTorch 2.6 or newer that imports; say for what it was built."""
    found = check_package(Package('torch', 'torch', '2.6'))
    if found.status != 'ok':
        ours = 'backend extension' in found.text  # our entry point failed inside `import torch`
        return found._replace(remedy=INSTALL if ours else found.remedy)
    import torch

    built = f'built for CUDA {torch.version.cuda}' if torch.version.cuda else 'built for CPU'
    return found._replace(text=f'{found.text}, {built}')


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


def check_mmcv() -> Finding:
    """Ask for exactly one of mmcv and mmcv-lite, of a version that mmseg accepts."""
    full, lite = version_of('mmcv'), version_of('mmcv-lite')
    package = Package('mmcv-lite', 'mmcv', '2.1.0', '2.2.0')
    if full and lite:
        remedy = f'pip uninstall -y mmcv mmcv-lite && {package.remedy}'
        text = f'mmcv {full} and mmcv-lite {lite} overwrite each other in one folder'
        return Finding('wrong', 'mmcv', text, remedy)
    if not full:
        return check_package(package)
    found = check_package(package._replace(distribution='mmcv'))
    error = import_error('mmcv._ext') if found.status == 'ok' else ''
    if error:
        build = 'pip install --force-reinstall --no-deps --no-build-isolation mmcv==2.1.0'
        return Finding('wrong', 'mmcv', f'{full}, its compiled ops do not load ({error})', build)
    return found


def check_opencv() -> Finding:
    """Ask for any of OpenCV's distributions, with the libraries it needs."""
    names = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
    installed = [f'{name} {version_of(name)}' for name in names if version_of(name)]
    if not (error := import_error('cv2')):
        return Finding('ok', 'opencv', ', '.join(installed) or 'not installed by pip')
    # where it is installed, usually libGL is missing, which the headless one does without
    headless = f'pip uninstall -y {names[0]} {names[2]} && pip install {names[1]}'
    remedy = headless if installed else f'pip install {names[0]}'
    return Finding('wrong', 'opencv', f'does not import ({error})', remedy)


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
    ours = Package('balkd_seg', 'balkd_seg')
    checks += [('balkd_seg', lambda: check_package(ours)._replace(remedy=INSTALL))]
    checks += [('stock mim', check_stock_commands), ('data', lambda: list(check_data(data)))]
    for name, check in checks:
        try:
            found = check()
        except Exception as error:
            text = f'could not be checked ({type(error).__name__}: {error})'.splitlines()[0]
            found = Finding('wrong', name, text, INSTALL)
        yield from [found] if isinstance(found, Finding) else found


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
