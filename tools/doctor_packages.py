"""The packages that `doctor.py` checks: installed, of the right version, and able to import."""

from __future__ import annotations  # runs, to complain, on any Python from 3.8 on

import importlib
import re
import warnings
from importlib import metadata
from typing import NamedTuple

INSTALL = "pip install -c constraints.txt -e '.[lite]'"
# What PyTorch before a version lacks, beside entry points (`stock mim`).
LACKS = {
    '2.4': 'before 2.4, torch.compile breaks its graph at the loss',
    '2.6': 'before 2.6, stock commands run code that a checkpoint holds: load only what you trust',
    '2.7': 'before 2.7, torch.compile compiles the loss anew at every weight of a schedule',
}


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


def version_of(distribution: str) -> str | None:
    """Return the installed version of a distribution, or of onedl's fork of it, or None."""
    for name in (distribution, f'onedl-{distribution}'):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


PACKAGES = (
    Package('mmengine', 'mmengine', '0.10.7'),
    Package('mmsegmentation', 'mmseg', '1.2.2'),
    Package('setuptools', 'pkg_resources', '77.0.3', '81'),
    # which onedl's forks do without: tools/train.py and tools/test.py are what mim would run
    Package('openmim', 'mim', '0.3.9', optional=version_of('onedl-mmsegmentation') is not None),
    Package('ftfy', 'ftfy'),
    Package('regex', 'regex'),
    Package('onnx', 'onnx', optional=True),
    Package('onnxruntime', 'onnxruntime', optional=True),
)


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
    """Ask for PyTorch 2.1 or newer that imports; say for what it was built and what it lacks."""
    found = check_package(Package('torch', 'torch', '2.1'))
    if found.status != 'ok':
        ours = 'backend extension' in found.text  # our entry point failed inside `import torch`
        return found._replace(remedy=INSTALL if ours else found.remedy)
    import torch

    built = f'built for CUDA {torch.version.cuda}' if torch.version.cuda else 'built for CPU'
    version = as_numbers(torch.__version__)
    lacks = [text for first, text in LACKS.items() if version < as_numbers(first)]
    if lacks:
        return found._replace(status='note', text=f'{found.text}, {built}; {"; ".join(lacks)}')
    return found._replace(text=f'{found.text}, {built}')


def check_triton() -> Finding:
    """Note whether the fused kernels can be built; everything runs without them."""
    installed = version_of('triton')
    if installed is None:
        text = 'not installed: no fused kernels; the chunked loss runs'
        return Finding('note', 'triton', text)
    if as_numbers(installed) < (3, 3):
        text = f'{installed}: the fused kernels need 3.3, which torch from 2.7 on brings'
        return Finding('note', 'triton', f'{text}; the chunked loss runs')
    return check_package(Package('triton', 'triton', '3.3', optional=True))


def check_mmcv() -> Finding:
    """Ask for exactly one of mmcv and mmcv-lite, of a version that mmseg accepts."""
    full, lite = version_of('mmcv'), version_of('mmcv-lite')
    package = Package('mmcv-lite', 'mmcv', '2.1.0', '2.2.0')
    if full and as_numbers(full) >= (2, 3):  # onedl's, with ops or without
        return check_package(Package('mmcv', 'mmcv', '2.3'))
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
    library = re.search(r'lib[\w+-]+\.so[.\d]*', error)
    if library:  # as in a minimal container; the headless one does without
        error = f'needs {library.group()} of the system, or opencv-python-headless'
    headless = f'pip uninstall -y {names[0]} {names[2]} && pip install {names[1]}'
    remedy = headless if installed else f'pip install {names[0]}'
    return Finding('wrong', 'opencv', f'does not import ({error})', remedy)
