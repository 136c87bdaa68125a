"""The benchmark end to end on a tiny image, and what its numbers mean."""

import importlib
import json
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('benchmark_loss')


def test_end_to_end(tool, tmp_path, capsys, monkeypatch):
    """One table: every process costs an import."""
    monkeypatch.setitem(tool.PROVIDERS, 'low', ('upsample', 'banded'))
    monkeypatch.delitem(tool.PROVIDERS, 'same')
    out = tmp_path / 'result.json'
    arguments = '--shape 1 3 16 24 --rounds 2 --threads 1 --no-compile --temperatures 1 2'
    tool.main([*arguments.split(), '--out', str(out)])
    printed = capsys.readouterr().out
    assert 'low size, temperatures 1 and 2' in printed
    assert 'banded' in printed
    result = json.loads(out.read_text())
    assert result['torch'] == torch.__version__
    assert result['threads'] == 1
    (table,) = result['tables']
    assert [row['provider'] for row in table['rows']] == ['upsample', 'banded']
    for row in table['rows']:
        assert len(row['all ms']) == 2
        assert row['value error'] < 1e-5
        assert row['gradient error'] < 1e-5
        assert row['faster'] == table['rows'][0]['median ms'] / row['median ms']


def test_naive_and_ours_are_the_same_loss(tool):
    for ratio, functions in ((1, (tool.naive, tool.upsample)), (4, (tool.upsample,))):
        inputs = tool.make_inputs([1, 3, 16, 24], ratio)
        expected = tool.ours(*inputs, 1.0, 2.0)
        for function in functions:
            torch.testing.assert_close(function(*inputs, 1.0, 2.0), expected)


def test_tensor_memory_is_the_most_at_once_and_not_the_sum(tool):
    def step():
        for _ in range(3):
            torch.ones(2**20, dtype=torch.uint8)

    assert tool.tensor_memory(step) == 2**20


def test_resident_memory_sees_what_a_step_touches(tool):
    if tool.resident('VmHWM') is None:
        pytest.skip('peak memory is read from /proc')
    size = 64 * 2**20
    peak = tool.resident_memory(lambda: torch.ones(size, dtype=torch.uint8))
    assert 0.9 * size < peak < 1.5 * size


def test_resident_memory_elsewhere_is_not_made_up(tool, monkeypatch):
    monkeypatch.setattr(tool, 'resident', lambda field: None)
    assert tool.resident_memory(lambda: None) is None
    report = {'peak': 4, 'resident': None, 'errors': [0.0, 0.0], 'first_s': 0.1}
    row = {**tool.row('chunked', report, [1.0, 2.0, 3.0], 4), 'faster': 1.0, 'of naive': None}
    assert 'n/a' in tool.format_table([row])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--rounds', '1'], 'expected --rounds of at least 2, but got 1'),
        (['--ratio', '2000'], 'expected --ratio from 1 to the smaller side, but got 2000'),
    ],
)
def test_bad_arguments(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert message in capsys.readouterr().err
