"""`import torch` prepares stock OpenMMLab commands without importing or registering anything."""

import os
import subprocess
import sys

import pytest


def run(code, **environment):
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


LOADED = (
    "import sys; print(*[m in sys.modules for m in ('balkd_seg', 'mmengine', 'mmcv', 'mmseg')])"
)
ALLOWED = (
    'import torch, mmengine.runner; '
    "print('HistoryBuffer' in str(torch.serialization.get_safe_globals()))"
)


def test_import_torch_stays_light():
    assert run(f'import torch; {LOADED}') == ['False'] * 4


def test_mmseg_and_mmengine_checkpoints_work_without_our_import():
    assert run(f'import torch, mmseg.models; {LOADED}') == ['False', 'True', 'True', 'True']
    assert run(ALLOWED) == ['True']


def test_it_can_be_switched_off():
    assert run(ALLOWED, BALKD_SEG_AUTOLOAD='0') == ['False']


@pytest.mark.parametrize('first', ['torch', 'balkd_seg', 'balkd_seg.ops', 'mmengine', 'mmseg'])
def test_the_plugin_registers_whatever_is_imported_first(first):
    code = (
        f'import {first}; import balkd_seg; from mmseg.registry import MODELS; '
        "print(MODELS.get('OfflineDistiller') is not None, balkd_seg.__version__ != '')"
    )
    assert run(code) == ['True', 'True']
