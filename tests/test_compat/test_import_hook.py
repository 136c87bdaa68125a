"""The import hook runs once, before the module."""

import importlib
import sys

from balkd_seg.compat.import_hook import install_import_hook


def test_action_runs_once_before_the_module(tmp_path, monkeypatch):
    (tmp_path / 'hooked_module.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = []
    install_import_hook('hooked_module', lambda: seen.append('hooked_module' in sys.modules))
    assert seen == []
    importlib.import_module('hooked_module')
    importlib.reload(sys.modules['hooked_module'])
    assert seen == [False]


def test_action_runs_at_once_for_a_module_that_is_there():
    seen = []
    install_import_hook('sys', lambda: seen.append(1))
    assert seen == [1]
