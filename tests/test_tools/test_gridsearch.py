"""What `mim gridsearch` makes of the sweep that the README shows; nothing is trained."""

import importlib
import itertools
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from mmengine.config import Config
from mmseg.registry import MODELS

# mim looks at every name of click, the deprecated ones among them
pytestmark = pytest.mark.filterwarnings('ignore:.* deprecated.*Click 9:DeprecationWarning')
ROOT = Path(__file__).resolve().parents[2]
TEMPERATURES = ('forward_temperature', 'reverse_temperature')


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Return the README's command, less its last column and row, in a folder with its sweep.py."""
    blocks = re.findall(r'```\w*\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    (config,) = (block for block in blocks if block.startswith('# sweep.py'))
    (command,) = (block for block in blocks if block.startswith('mim gridsearch'))
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'sweep.py').write_text(config)
    monkeypatch.chdir(tmp_path)
    assert command.count(' 1.0 2.0 4.0') == 2
    return shlex.split(command.replace(' 4.0', ''))


@pytest.fixture
def mim(monkeypatch):
    """Return mim's module, whose command starts nothing and waits for nothing."""
    module = importlib.import_module('mim.commands.gridsearch')
    monkeypatch.setattr(module.time, 'sleep', lambda _: None)
    monkeypatch.setattr(module.subprocess, 'check_output', lambda _: b'usage of train.py')
    return module


def test_every_cell_of_the_sweep_is_trained_in_a_work_dir_of_its_own(mim, command, monkeypatch):
    started = []
    monkeypatch.setattr(mim.subprocess, 'check_call', lambda line, env: started.append(line) or 0)
    result = CliRunner().invoke(mim.cli, command[2:])
    assert result.exit_code == 0, result.output
    folders = [line[line.index('--work-dir') + 1] for line in started]
    assert len(set(folders)) == 4
    assert [str(Path(line[2]).parent) for line in started] == folders
    configs = [Config.fromfile(line[2]) for line in started]
    entries = [config.model.distill[0] for config in configs]
    cells = [tuple(entry[name] for name in TEMPERATURES) for entry in entries]
    assert cells == list(itertools.product((1.0, 2.0), repeat=2))
    assert [MODELS.build(entry).loss_name for entry in entries] == ['loss_balkd'] * 4
    expected = Config.fromfile('sweep.py').to_dict()
    for config, entry in zip(configs, entries, strict=True):
        entry.update(dict.fromkeys(TEMPERATURES, 1.0))
        assert config.to_dict() == expected
