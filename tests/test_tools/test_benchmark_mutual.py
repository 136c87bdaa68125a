"""The benchmark end to end on small networks, and what its numbers mean."""

import importlib
import json
from pathlib import Path

import pytest
from mmengine.config import Config

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('benchmark_mutual')


def test_end_to_end(tool, make_segmentor, tmp_path, capsys):
    model = dict(
        type='MutualDistiller',
        student=make_segmentor(),
        peers=dict(teacher=make_segmentor(depth=34)),
        distill=[dict(type='PixelwiseKLLoss'), dict(type='PixelwiseKLLoss', learner='teacher')],
    )
    Config(dict(model=model)).dump(tmp_path / 'tiny.py')
    out = tmp_path / 'result.json'
    tool.main(
        ['--config', str(tmp_path / 'tiny.py'), '--batch', '2', '--size', '32', '48', '--rounds',
         '2', '--threads', '1', '--out', str(out)]
    )  # fmt: skip
    printed, result = capsys.readouterr().out, json.loads(out.read_text())
    names = ['student', 'teacher', 'together', 'together, fuse_task_loss', 'sum of the plain steps']
    assert [row['step'] for row in result['rows']] == names
    assert all(name in printed for name in names)
    assert result['rows'][-1]['ratio'] == 1
    assert all(len(row['all ms']) == 2 for row in result['rows'])


def test_ratios_are_those_of_each_round(tool):
    times = {'student': [1.0, 10.0, 2.0], 'teacher': [3.0, 10.0, 2.0], 'together': [8.0, 20.0, 8.0]}
    rows = {row['step']: row for row in tool.summarise(times)}
    assert rows['together']['ratio'] == 2  # of 2, 1 and 2
    assert rows['sum of the plain steps']['median ms'] == 4


def test_refuses_another_model(tool, make_segmentor, tmp_path):
    Config(dict(model=make_segmentor())).dump(tmp_path / 'plain.py')
    with pytest.raises(SystemExit, match='expected a config of a MutualDistiller'):
        tool.main(['--config', str(tmp_path / 'plain.py')])
