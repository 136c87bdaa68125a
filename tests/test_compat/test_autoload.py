"""`import torch` prepares stock OpenMMLab commands without importing or registering anything."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer

needs_autoload = pytest.mark.skipif(
    torch.__version__ < '2.5', reason='PyTorch before 2.5 loads no entry points'
)


def run(code, **environment):
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()[-1].split()  # a fork of mmengine prints a line of its own


LOADED = (
    "import sys; print(*[m in sys.modules for m in ('balkd_seg', 'mmengine', 'mmcv', 'mmseg')])"
)


@pytest.fixture
def checkpoint(tmp_path):
    """Return the path of what mmengine's Runner saves, as far as it is hard to load."""
    buffer = HistoryBuffer()
    buffer.update(2.0)
    path = tmp_path / 'iter_1.pth'
    hub = dict(log_scalars={'train/loss': buffer})
    content = dict(state_dict=dict(w=torch.ones(1)), message_hub=hub, optimizer={})
    torch.save(content, path)
    return str(path)


def load(first, path):
    return (
        f'{first}; loaded = torch.load({path!r}, weights_only=True); '
        "print(loaded['message_hub']['log_scalars']['train/loss'].mean())"
    )


def test_import_torch_stays_light():
    assert run(f'import torch; {LOADED}') == ['False'] * 4


@needs_autoload
def test_mmseg_works_without_our_import():
    assert run(f'import torch, mmseg.models; {LOADED}') == ['False', 'True', 'True', 'True']


@needs_autoload
@pytest.mark.parametrize(
    'first', ['import torch', 'import torch, mmseg', 'import torch, mmengine.runner']
)
def test_mmengine_checkpoints_load_whatever_else_is_imported(checkpoint, first):
    assert run(load(first, checkpoint)) == ['2.0']


@needs_autoload
def test_mmsegs_publish_model_works(checkpoint, tmp_path):
    import mmseg

    tool = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'misc' / 'publish_model.py'
    code = (
        'import runpy, sys; '
        f"sys.argv = ['publish_model.py', {checkpoint!r}, {str(tmp_path / 'public.pth')!r}]; "
        f"runpy.run_path({str(tool)!r}, run_name='__main__')"
    )
    run(f"{code}; print('done')")
    # the tool does not wait for its own `mv`
    (published,) = wait_for(lambda: list(tmp_path.glob('public-*.pth')))
    assert set(torch.load(published, weights_only=True)) == {'state_dict', 'message_hub'}


def wait_for(find, seconds=10):
    """Return what `find` returns once it is not empty."""
    for _ in range(20 * seconds):
        if found := find():
            return found
        time.sleep(0.05)
    raise AssertionError('nothing appeared')


@needs_autoload
def test_it_can_be_switched_off(checkpoint):
    with pytest.raises(AssertionError, match='HistoryBuffer'):
        run(load('import torch', checkpoint), BALKD_SEG_AUTOLOAD='0')


@pytest.mark.parametrize('first', ['torch', 'balkd_seg', 'balkd_seg.ops', 'mmengine', 'mmseg'])
def test_the_plugin_registers_whatever_is_imported_first(first):
    code = (
        f'import {first}; import balkd_seg; from mmseg.registry import MODELS; '
        "print(MODELS.get('OfflineDistiller') is not None, balkd_seg.__version__ != '')"
    )
    assert run(code) == ['True', 'True']
