"""What pip would do to the environment of somebody who has PyTorch and mmcv.

pip's own plan, made offline: an environment of nothing but metadata, where every package that ours
needs counts as installed, and a wheel of nothing but our metadata.
"""

import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

pytest.importorskip('packaging')
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = {x.name for x in metadata.distributions()}
if not {'pip', 'mmsegmentation', 'mmengine', 'openmim'} <= INSTALLED:
    pytest.skip('reads the metadata of stock OpenMMLab', allow_module_level=True)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Return a wheel of our metadata alone."""
    folder = tmp_path_factory.mktemp('wheel')
    command = [sys.executable, '-W', 'ignore', 'setup.py', '-q', 'egg_info', '--egg-base', folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    info = (folder / 'balkd_seg.egg-info' / 'PKG-INFO').read_text(encoding='utf-8')
    file = folder / 'balkd_seg-0.1.0-py3-none-any.whl'
    with zipfile.ZipFile(file, 'w') as archive:
        place = 'balkd_seg-0.1.0.dist-info'
        archive.writestr(f'{place}/METADATA', info)
        archive.writestr(f'{place}/WHEEL', 'Wheel-Version: 1.0\nTag: py3-none-any\n')
        archive.writestr(f'{place}/RECORD', '')
    return file


def needed(names):
    """Return the metadata of these distributions and of all that they need, by name."""
    found = {}
    while names:
        name = names.pop().lower().replace('_', '-')
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({'extra': ''}):
                names.append(requirement.name)
    return found


@pytest.fixture
def environment(tmp_path):
    """Return a function that makes an environment in which these versions count as installed."""

    def make(**versions):
        builder = venv.EnvBuilder(with_pip=False, symlinks=True)
        builder.create(tmp_path)
        site = next(tmp_path.glob('[Ll]ib*/**/site-packages'))
        texts = {
            name: distribution.read_text('METADATA')
            for name, distribution in needed(
                ['mmengine', 'mmsegmentation', 'openmim', 'ftfy', 'regex']
            ).items()
        }
        texts.update(setuptools='Metadata-Version: 2.1\nName: setuptools\nVersion: 80.0.0\n')
        for name in ('torch', 'mmcv', 'mmcv-lite', *versions):
            texts.pop(name, None)
        for name, version in versions.items():
            texts[name] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        for name, text in texts.items():
            version = next(x for x in text.splitlines() if x.startswith('Version:')).split()[1]
            place = site / f'{name.replace("-", "_")}-{version}.dist-info'
            place.mkdir()
            (place / 'METADATA').write_text(text, encoding='utf-8')
            (place / 'INSTALLER').write_text('pip\n')
            (place / 'RECORD').write_text('')
        scripts = tmp_path / ('Scripts' if os.name == 'nt' else 'bin')
        return next(scripts.glob('python*'))

    return make


def plan(python, wheel):
    """Return pip's exit status, the names that it would install, and what it complains of."""
    command = [sys.executable, '-m', 'pip', '--python', python, 'install', '--dry-run', '--quiet']
    command += ['--no-index', '--report', '-', wheel]
    environment = {k: x for k, x in os.environ.items() if not k.startswith(('PIP_', 'PYTHONPATH'))}
    environment['PIP_CONFIG_FILE'] = os.devnull
    run = subprocess.run(
        command, cwd=wheel.parent, env=environment, capture_output=True, text=True, check=False
    )
    report = json.loads(run.stdout)['install'] if run.returncode == 0 else []
    return run.returncode, {x['metadata']['name'] for x in report}, run.stderr


@pytest.mark.parametrize('torch', ['2.1.2+cu121', '2.13.0+cpu'])
def test_torch_and_full_mmcv_stay_as_they_are(environment, wheel, torch):
    status, installed, complaint = plan(environment(torch=torch, mmcv='2.1.0'), wheel)
    assert status == 0, complaint
    assert installed == {'balkd_seg'}


def test_the_headless_opencv_is_not_replaced_by_us():
    """mmengine asks for opencv-python; we add nothing to that."""
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    assert "'opencv" not in setup


def test_this_test_would_see_a_change(environment, wheel):
    status, _, complaint = plan(environment(torch='2.0.1', mmcv='2.1.0'), wheel)
    assert status != 0
    assert 'torch>=2.1' in complaint
