"""The GPU benchmark on a CPU, where its times mean nothing: tables, failures, aims, files."""

import contextlib
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
        ['--device=cpu', '--quick', '--rounds', '2', '--reps', '2', '--only', *NAMES,
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
    assert full['rows'][0]['host'] > 0
    assert 'UNMEASURED  1x5x32x64 fp32 from 1/1, temperatures (1.0, 2.0): against liger: Out' in (
        '\n'.join(result['bars'])
    )
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


def test_the_tables_with_aims_come_first(tool):
    first = [(case['shape'][1], case['ratio']) for case in tool.cases(quick=False)[:3]]
    assert first == [(19, 8), (150, 8), (19, 1)]
    for case in tool.cases(quick=False)[:3]:
        assert (case['dtype'], case['taus']) == ('fp32', (1.0, 1.0))


def row(provider, ms, megabytes=100, error=1e-6, **more):
    return {'provider': provider, 'p50 ms': ms, 'peak MB': megabytes, 'grad error': error, **more}


CASE = {'shape': [8, 19, 512, 1024], 'ratio': 8, 'dtype': 'fp32', 'taus': (1.0, 1.0)}
MINE = row('balkd_seg', 0.25, 10, share=0.1, repeats=True)


def test_bars_are_met_or_missed_by_figures(report):
    rows = [
        row('upsample + naive', 5.0, 3000, error=4e-7), row('upsample + lean', 4.0),
        row('upsample + naive, compiled', 1.0), row('upsample + lean, compiled', 0.2),
        row('upsample + lean, autotuned', 0.3), row('upsample + liger', 8.0), MINE,
    ]  # fmt: skip
    lines = report.bars([{'title': 'T', 'case': CASE, 'rows': rows}])
    assert lines == [
        'met         T: ms <= 0.4: 0.25',
        'met         T: times faster than upsample + naive >= 10: 20',
        'met         T: times leaner than upsample + naive >= 20: 300',
        'MISSED      T: gradient error, in that of upsample + naive <= 2: 2.5',
        'met         T: times faster than plain PyTorch (upsample + lean) >= 1: 16',
        'MISSED      T: times faster than torch.compile (upsample + lean, compiled) >= 1: 0.8',
        'met         T: times faster than Liger-Kernel (upsample + liger) >= 1: 32',
        'met         T: bits repeat: 1',
    ]
    rows = [row('naive', 5.0, 3000), dict(MINE, share=0.7)]
    lines = report.bars([{'title': 'T', 'case': dict(CASE, ratio=1), 'rows': rows}])
    assert lines[0] == 'MISSED      T: share of the bandwidth >= 0.8: 0.7'
    assert lines[1] == 'met         T: gradient error, in that of naive <= 2: 1'
    failed = [{'provider': 'balkd_seg', 'error': 'E'}]
    assert report.bars([{'title': 'T', 'case': CASE, 'rows': failed}]) == [
        'MISSED      T: balkd_seg: E'
    ]


def test_what_was_not_measured_is_not_passed_over(report):
    rows = [
        {'provider': 'upsample + naive', 'error': 'OutOfMemoryError: CUDA'},
        {'provider': 'upsample + liger', 'error': 'ModuleNotFoundError: liger_kernel'}, MINE,
    ]  # fmt: skip
    lines = report.bars([{'title': 'T', 'case': CASE, 'rows': rows}])
    assert [line for line in lines if line.startswith('UNMEASURED')] == [
        'UNMEASURED  T: against upsample + naive: OutOfMemoryError: CUDA',
        'UNMEASURED  T: against upsample + lean: not in this run',
        'UNMEASURED  T: against upsample + naive, compiled: not in this run',
        'UNMEASURED  T: against upsample + lean, compiled: not in this run',
        'UNMEASURED  T: against upsample + lean, autotuned: not in this run',
        'UNMEASURED  T: against upsample + liger: ModuleNotFoundError: liger_kernel',
    ]
    assert not any('times' in line for line in lines)


def test_times_are_relative_to_naive_alone(tool, monkeypatch, tmp_path):
    arguments = ['--device', 'cpu', '--quick', '--rounds', '1', '--reps', '2']
    tool.main([*arguments, '--only', 'lean', '--out', str(tmp_path / 'a.json')])
    result = json.loads((tmp_path / 'a.json').read_text())
    assert 'x' not in result['tables'][0]['rows'][0]


class FakeCuda:
    """Stands for `torch.cuda` where a capture fails without taking its stream back."""

    def __init__(self):
        self.stream = 'current'

    def current_stream(self):
        return self.stream

    def set_stream(self, stream):
        self.stream = stream

    def synchronize(self):
        pass

    def CUDAGraph(self):  # noqa: N802
        return None

    @contextlib.contextmanager
    def graph(self, graph):
        self.stream = 'capture'
        yield


def test_a_capture_that_fails_leaves_the_stream(tool, monkeypatch):
    meter = importlib.import_module('benchmark_meter').Meter('cpu')
    fake = FakeCuda()
    monkeypatch.setattr(meter, 'cuda', True)
    monkeypatch.setattr('torch.cuda', fake)

    def step():
        raise RuntimeError('operation not permitted when stream is capturing')

    assert meter.graph(step, 1) == 'not capturable (RuntimeError)'
    assert fake.stream == 'current'


@pytest.mark.filterwarnings('ignore:invalid value:RuntimeWarning')  # in the interpreter
def test_liger_gives_the_same_loss(tool):
    pytest.importorskip('liger_kernel')
    providers = importlib.import_module('benchmark_providers')
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 5, (2, 4, 6), generator=generator)
    target[0, 0, :3] = 255
    student, teacher = (3 * torch.randn(2, 5, 4, 6, generator=generator) for _ in range(2))
    for taus in ((1.0, 1.0), (1.0, 2.0)):
        expected = providers.naive(student, teacher, target, taus)
        torch.testing.assert_close(providers.liger(student, teacher, target, taus), expected)
