"""The GPU benchmark on a CPU, where its times mean nothing: tables, failures, aims, files."""

import importlib
import json
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('benchmark_loss_cuda')


@pytest.fixture
def report(tool):
    return importlib.import_module('benchmark_cuda_report')


NAMES = ['naive', 'lean', 'liger', 'balkd_seg', 'upsample + naive', 'upsample + lean',
         'upsample + balkd_seg']  # fmt: skip


def test_end_to_end(tool, tmp_path, capsys, monkeypatch):
    providers = importlib.import_module('benchmark_providers')

    def fail(*args):
        raise torch.OutOfMemoryError('too large')

    monkeypatch.setattr(providers, 'liger', fail)
    importlib.import_module('benchmark_loss').main(
        ['--device', 'cpu', '--quick', '--rounds', '2', '--reps', '2', '--only', *NAMES,
         '--out', str(tmp_path / 'a.json'), '--png', str(tmp_path / 'a.png')]
    )  # fmt: skip
    result = json.loads((tmp_path / 'a.json').read_text())
    full, low = result['tables']
    assert [row['provider'] for row in full['rows']] == ['naive', 'lean', 'liger', 'balkd_seg']
    assert [row['provider'] for row in low['rows']] == [*NAMES[4:], 'balkd_seg']
    for row in [*full['rows'], *low['rows']]:
        if row['provider'] == 'liger':
            assert row['error'] == 'OutOfMemoryError: too large'
            continue
        assert row['value error'] < 1e-5
        assert row['grad error'] < 1e-5
        assert row['p20'] <= row['p50 ms'] <= row['p80']
        assert row['repeats'] is True
    assert full['rows'][0]['x'] == 1
    printed = capsys.readouterr().out
    assert 'liger                       OutOfMemoryError: too large' in printed
    assert 'bits repeat: 1' in printed
    assert (tmp_path / 'a.png').stat().st_size > 5000
    assert result['skipped'] == []


def test_out_of_time_is_said(tool, capsys):
    # a table is started only before the time is up, and the picture needs none
    arguments = ['--device', 'cpu', '--quick', '--rounds', '1', '--reps', '2']
    tool.main([*arguments, '--only', 'balkd_seg', '--minutes', '0.0000001'])
    assert 'Out of time (--minutes 1e-07): 1x5x32x64 fp32 from 1/1' in capsys.readouterr().out


def test_needs_a_gpu_unless_told_otherwise(tool, capsys, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(SystemExit):
        tool.main(['--device', 'cuda'])
    assert 'expected a CUDA device, but PyTorch sees none' in capsys.readouterr().err


def test_measured_shapes_are_those_of_the_promise(tool):
    cases = tool.cases(quick=False)
    assert len(cases) == 20
    assert {tuple(case['shape'][:2]) for case in cases} == {(8, 19), (16, 11), (16, 150), (16, 171)}
    assert {(case['ratio'], case['dtype']) for case in cases} == {
        (ratio, dtype) for ratio in (1, 8) for dtype in ('fp32', 'bf16')
    }


def test_bars_are_met_or_missed_by_figures(report):
    def row(provider, ms, megabytes, **more):
        return {'provider': provider, 'p50 ms': ms, 'peak MB': megabytes, 'x': 5.0 / ms, **more}

    case = {'shape': [8, 19, 512, 1024], 'ratio': 8, 'dtype': 'fp32', 'taus': (1.0, 1.0)}
    mine = row('balkd_seg', 0.25, 10, share=0.1, repeats=True)
    rows = [row('upsample + naive', 5.0, 3000), row('upsample + lean, compiled', 0.2, 500), mine]
    lines = report.bars([{'title': 'T', 'case': case, 'rows': rows}])
    assert lines == [
        'met     T: ms <= 0.4: 0.25',
        'met     T: times faster than eager >= 10: 20',
        'met     T: times leaner than eager >= 20: 300',
        'MISSED  T: times faster than upsample + lean, compiled >= 1: 0.8',
        'met     T: bits repeat: 1',
    ]
    case = dict(case, ratio=1)
    rows = [row('naive', 5.0, 3000), dict(mine, share=0.7)]
    assert report.bars([{'title': 'T', 'case': case, 'rows': rows}])[0] == (
        'MISSED  T: share of the bandwidth >= 0.8: 0.7'
    )
    failed = [{'provider': 'balkd_seg', 'error': 'E'}]
    assert report.bars([{'title': 'T', 'case': case, 'rows': failed}]) == [
        'MISSED  T: balkd_seg failed'
    ]
