"""`pkgutil.find_loader` where Python has none, as from 3.14 on."""

import pkgutil
import subprocess
import sys

import pytest

from balkd_seg.compat.find_loader import find_loader, restore_find_loader


def test_it_comes_back_where_it_is_gone(monkeypatch):
    monkeypatch.delattr(pkgutil, 'find_loader', raising=False)
    restore_find_loader()
    assert pkgutil.find_loader is find_loader
    from mmcv.utils.ext_loader import check_ops_exist
    from mmengine.utils.dl_utils.misc import mmcv_full_available

    assert check_ops_exist() is mmcv_full_available()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason='this Python has none of its own')
def test_python_s_own_stays(monkeypatch):
    monkeypatch.setattr(pkgutil, 'find_loader', print)
    restore_find_loader()
    assert pkgutil.find_loader is print


def test_it_answers_as_python_s_did():
    assert find_loader('json').get_filename().endswith('__init__.py')
    assert find_loader('no_such_module') is None
    assert find_loader('json.no_such_module') is None


def test_a_python_without_it_imports_everything():
    code = (
        "import pkgutil; vars(pkgutil).pop('find_loader', None); import torch, balkd_seg; "
        'from mmseg.registry import MODELS; import mmseg.models; print(len(MODELS) > 9)'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ['True'], done.stderr
