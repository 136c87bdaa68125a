"""What the benchmarks of large steps share."""

import importlib
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('benchmark_steps')


def test_rounds_count_from_the_second(tool):
    calls = []
    steps = {'a': lambda: calls.append('a'), 'b': lambda: calls.append('b')}
    times = tool.take_turns(steps, 2, 'cpu')
    assert calls == ['a', 'b'] * 3
    assert [len(values) for values in times.values()] == [2, 2]


def test_ratio_is_that_of_each_round(tool):
    row = tool.make_row('a', [8.0, 20.0, 8.0], [4.0, 20.0, 4.0])
    assert (row['median ms'], row['ratio']) == (8, 2)


def test_refuses_one_round(tool, capsys):
    with pytest.raises(SystemExit):
        tool.options('', 'x.py', (8, 8)).parse_args(['--rounds', '1'])
    assert '--rounds: expected at least 2, but got 1' in capsys.readouterr().err
