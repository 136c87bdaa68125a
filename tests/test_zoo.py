"""Every model family of mmseg in both roles, and the page that says which can be distilled."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / 'tools')
    zoo = importlib.import_module('zoo')
PAGE = (ROOT / 'configs' / 'ZOO.md').read_text(encoding='utf-8')


@pytest.mark.slow
# mmseg's K-Net names an argument of mmcv's FFN as it used to be called, its BEiT calls meshgrid so
@pytest.mark.filterwarnings('ignore:torch.meshgrid')
@pytest.mark.filterwarnings('ignore:"dropout" is deprecated in `FFN')
@pytest.mark.parametrize('folder', zoo.FAMILIES)
def test_the_page_says_what_a_family_does(folder):
    """With packages that the page lacks, a family may do more."""
    row = zoo.try_family(folder)
    said = next(line for line in PAGE.splitlines() if line.startswith(f'| {folder} |'))
    if ' needs ' not in said or any(row):
        assert zoo.line_of(folder, row) == said, 'run python tools/zoo.py --write'


def test_the_page_is_of_every_family_and_config():
    folders = {path.name for path in zoo.ZOO.iterdir() if path.is_dir()}
    assert set(zoo.FAMILIES) == folders - {'_base_', 'dsdl'}
    lines = PAGE.removeprefix(zoo.ABOUT).splitlines()[1:]
    assert PAGE.startswith(zoo.ABOUT)
    assert [line.split(' | ')[:2] for line in lines] == [
        [f'| {folder}', f'`{family.config}`'] for folder, family in sorted(zoo.FAMILIES.items())
    ]


def test_what_runs_in_stock_mmseg_runs_in_every_role():
    """The page holds no network that only distillation breaks."""
    roles = [line.split(' | ')[2:5] for line in PAGE.removeprefix(zoo.ABOUT).splitlines()[1:]]
    assert ['yes'] * 3 in roles
    assert not [role for role in roles if role[0] == 'yes' and role != ['yes'] * 3]


def test_a_failure_is_told_apart(monkeypatch):
    """One of the student alone from one of the pair."""
    folder = 'fcn'
    monkeypatch.setattr(zoo, 'partner', lambda _: dict(type='Missing'))
    row = zoo.try_family(folder)
    assert row.alone is None
    assert 'Missing' in row.student
    line = zoo.line_of(folder, row)
    assert line.startswith(f'| fcn | `{zoo.FAMILIES[folder].config}` | yes | no | no | KeyError')


def test_the_command(monkeypatch, tmp_path, capsys):
    rows = {name: zoo.Row(None, None, None) for name in zoo.FAMILIES}
    monkeypatch.setattr(zoo, 'PAGE', tmp_path / 'ZOO.md')
    monkeypatch.setattr(zoo, 'try_family', rows.get)
    assert zoo.main(['ann', 'knet']) == 0
    assert capsys.readouterr().out.count('Row(') == 2
    assert not zoo.PAGE.exists()
    assert zoo.main(['--write']) == 0
    assert zoo.PAGE.read_text() == zoo.page(rows)
    with pytest.raises(SystemExit):
        zoo.main(['ann', '--write'])
