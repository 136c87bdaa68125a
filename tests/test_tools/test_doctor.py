import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / 'tools' / 'doctor.py'


@pytest.fixture
def doctor(load):
    return load('doctor')


@pytest.fixture
def packages(load):
    return load('doctor_packages')


@pytest.fixture
def pretend(packages, monkeypatch):
    """Return a function that fakes installed versions and modules that do not import."""

    def fake(versions=None, broken=()):
        monkeypatch.setattr(packages, 'version_of', (versions or {}).get)
        monkeypatch.setattr(
            packages, 'import_error', lambda name: 'ImportError: broken' if name in broken else ''
        )

    return fake


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_everything_is_well_where_these_tests_run(tmp_path):
    """As a user runs it: an import can depend on what these tests have imported."""
    command = [sys.executable, '-W', 'ignore', str(SCRIPT), '--data', str(tmp_path)]
    # in Triton's interpreter the kernels take minutes
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert 'Nothing is wrong.' in done.stdout
    assert 'wrong  ' not in done.stdout
    for name in ('python', 'mmengine', 'mmsegmentation'):
        assert f'ok     {name}' in done.stdout
    status = 'note' if torch.__version__ < '2.7' else 'ok'
    assert f'{status:<6} torch' in done.stdout


def test_runs_without_any_package_and_tells_how_to_install_each():
    run = subprocess.run(
        [sys.executable, '-S', str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1, run.stderr
    lines = run.stdout.splitlines()
    wrong = [number for number, line in enumerate(lines) if line.startswith('wrong')]
    names = {lines[number].split()[1] for number in wrong}
    assert names >= {'torch', 'mmcv-lite', 'mmengine', 'opencv'}
    assert all('-> pip install' in lines[number + 1] for number in wrong)


@pytest.mark.parametrize(
    ('version', 'status'),
    [('76.0', 'wrong'), ('77.0.3', 'ok'), ('80.10.2', 'ok'), ('81.0.0', 'wrong'), ('82', 'wrong')],
)
def test_version_must_lie_between_the_limits(doctor, pretend, version, status):
    pretend({'setuptools': version})
    found = doctor.check_package(doctor.Package('setuptools', 'pkg_resources', '77.0.3', '81'))
    assert found.status == status
    if status == 'wrong':
        assert found.remedy == "pip install -c constraints.txt 'setuptools>=77.0.3,<81'"


def test_package_that_does_not_import_is_installed_again(doctor, pretend):
    pretend({'ftfy': '6.3'}, broken=['ftfy'])
    found = doctor.check_package(doctor.Package('ftfy', 'ftfy'))
    assert found.status == 'wrong'
    assert 'ImportError: broken' in found.text
    assert '--force-reinstall' in found.remedy


def test_missing_optional_package_is_only_noted(doctor, pretend):
    pretend()
    assert doctor.check_package(doctor.Package('triton', 'triton', optional=True)).status == 'note'


def test_failure_of_our_own_entry_point_is_not_blamed_on_torch(doctor, packages, monkeypatch):
    text = '2.13.0, does not import (RuntimeError: Failed to load the backend extension: balkd_seg)'
    finding = doctor.Finding('wrong', 'torch', text, 'pip install torch')
    monkeypatch.setattr(packages, 'check_package', lambda package: finding)
    assert doctor.check_torch().remedy == doctor.INSTALL


@pytest.mark.parametrize(
    ('versions', 'broken', 'status', 'text'),
    [
        ({'mmcv-lite': '2.1.0'}, [], 'ok', '2.1.0'),
        ({'mmcv': '2.1.0'}, [], 'ok', '2.1.0'),
        ({'mmcv': '2.1.0', 'mmcv-lite': '2.1.0'}, [], 'wrong', 'overwrite each other'),
        ({'mmcv-lite': '2.2.0'}, [], 'wrong', 'below 2.2.0'),
        ({'mmcv': '2.1.0'}, ['mmcv._ext'], 'wrong', 'compiled ops do not load'),
        ({}, [], 'wrong', 'not installed'),
    ],
)
def test_exactly_one_mmcv_is_wanted(doctor, pretend, versions, broken, status, text):
    pretend(versions, broken)
    found = doctor.check_mmcv()
    assert found.status == status
    assert text in found.text
    assert bool(found.remedy) == (status == 'wrong')


def test_opencv_without_its_libraries_is_replaced_by_the_headless_one(doctor, pretend):
    pretend({'opencv-python': '5.0'}, broken=['cv2'])
    assert 'opencv-python-headless' in doctor.check_opencv().remedy


def test_a_minimal_container_is_told_which_library_it_lacks(doctor, packages, monkeypatch):
    error = 'ImportError: libxcb.so.1: cannot open shared object file: No such file or directory'
    monkeypatch.setattr(packages, 'import_error', lambda name: error)
    monkeypatch.setattr(packages, 'version_of', {'opencv-python': '5.0'}.get)
    found = doctor.check_opencv()
    assert 'needs libxcb.so.1 of the system' in found.text
    assert 'pip install opencv-python-headless' in found.remedy


def test_the_headless_opencv_does_as_well(doctor, pretend):
    pretend({'opencv-python-headless': '5.0'})
    assert doctor.check_opencv()[:3] == ('ok', 'opencv', 'opencv-python-headless 5.0')


@pytest.mark.parametrize(
    ('version', 'lacks'),
    [
        ('2.1.2+cu121', ['breaks its graph', 'stock commands', 'of a schedule']),
        ('2.4.1', ['stock commands', 'of a schedule']),
        ('2.6.0+cu124', ['of a schedule']),
    ],
)
def test_an_old_pytorch_is_told_what_it_lacks(doctor, pretend, monkeypatch, version, lacks):
    pretend({'torch': version})
    monkeypatch.setattr(torch, '__version__', version)
    found = doctor.check_torch()
    assert found.status == 'note'
    assert found.text.count('before 2.') == len(lacks)
    assert all(text in found.text for text in lacks)


def test_an_old_pytorch_is_not_blamed_for_entry_points_that_it_does_not_load(doctor, monkeypatch):
    monkeypatch.setattr(doctor, 'STOCK_PROBE', 'raise ImportError("no mmcv.ops")')
    monkeypatch.setattr(doctor, 'version_of', {'torch': '2.4.1'}.get)
    found = doctor.check_stock_commands()
    assert found.status == 'note'
    assert 'torch 2.4.1 loads no entry points' in found.text


@pytest.mark.parametrize(
    ('version', 'status', 'text'),
    [
        (None, 'note', 'no fused kernels'),
        ('2.1.0', 'note', 'the fused kernels need 3.3'),
        ('3.2.0', 'note', 'the fused kernels need 3.3'),
        ('3.3.0', 'ok', '3.3.0'),
    ],
)
def test_fused_kernels_want_triton_3(doctor, pretend, version, status, text):
    pretend({'triton': version})
    found = doctor.check_triton()
    assert found.status == status
    assert text in found.text


def test_the_fork_of_onedl_counts(packages, doctor, monkeypatch):
    def version(name):
        if name.startswith('onedl-'):
            return '2.3.6'
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'version', version)
    monkeypatch.setattr(packages, 'import_error', lambda name: '')
    assert packages.version_of('mmsegmentation') == '2.3.6'
    assert doctor.check_mmcv() == ('ok', 'mmcv', '2.3.6', '')


@pytest.mark.parametrize('variable', ['BALKD_SEG_AUTOLOAD', 'TORCH_DEVICE_BACKEND_AUTOLOAD'])
def test_entry_point_switched_off_is_noted(doctor, monkeypatch, variable):
    monkeypatch.setenv(variable, '0')
    found = doctor.check_stock_commands()
    assert (found.status, found.remedy) == ('note', f'unset {variable}')


def test_missing_entry_point_is_wrong(doctor, monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, 'entry_points', lambda: importlib.metadata.EntryPoints()
    )
    found = doctor.check_stock_commands()
    assert found.status == 'wrong'
    assert 'entry point' in found.text


def test_stock_commands_are_really_tried(doctor, monkeypatch):
    monkeypatch.setattr(doctor, 'STOCK_PROBE', 'raise ImportError("no mmcv.ops")')
    monkeypatch.setattr(doctor, 'version_of', {'torch': '2.13.0'}.get)
    found = doctor.check_stock_commands()
    assert found.status == 'wrong'
    assert 'no mmcv.ops' in found.text


def test_check_that_breaks_is_a_finding_and_stops_no_other(doctor, monkeypatch, tmp_path):
    def explode():
        raise RuntimeError('boom')

    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(doctor, 'check_mmcv', explode)
    monkeypatch.setattr(doctor, 'check_stock_commands', doctor.check_python)
    found = {finding.name: finding for finding in doctor.find_all(tmp_path)}
    assert found['mmcv'].status == 'wrong'
    assert 'boom' in found['mmcv'].text
    assert found['street_scenes'].status == 'note'


def test_absent_data_is_noted_with_the_way_to_get_it(doctor, tmp_path):
    found = {finding.name: finding for finding in doctor.check_data(tmp_path)}
    assert {finding.status for finding in found.values()} == {'note'}
    assert found['camvid'].remedy == 'see data/README.md'
    assert 'make_street_scenes.py' in found['street_scenes'].remedy


def test_complete_and_half_complete_data(doctor, tmp_path):
    for split in ('train', 'val', 'test'):
        touch(tmp_path / 'camvid', f'{split}/a.png', f'{split}annot/a.png')
    for split in ('train', 'val'):
        scene = f'{split}/city/a'
        touch(tmp_path / 'cityscapes', f'leftImg8bit/{scene}_leftImg8bit.png')
        touch(tmp_path / 'cityscapes', f'gtFine/{scene}_gtFine_labelTrainIds.png')
    touch(tmp_path / 'cityscapes', 'leftImg8bit/val/city/b_leftImg8bit.png')
    touch(tmp_path / 'street_scenes', 'leftImg8bit/train/readme.txt')
    found = {finding.name: finding for finding in doctor.check_data(tmp_path)}
    assert found['camvid'].status == 'ok'
    assert '1 train, 1 val, 1 test' in found['camvid'].text
    assert found['cityscapes'].status == 'wrong'
    assert 'b_gtFine_labelTrainIds.png' in found['cityscapes'].text
    assert 'csCreateTrainIdLabelImgs' in found['cityscapes'].remedy
    assert found['street_scenes'].status == 'wrong'
    assert found['street_scenes'].remedy.endswith('--force')
