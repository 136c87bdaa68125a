"""The comparison: its plan, its state on disk, and a whole one at toy size."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

pytestmark = pytest.mark.usefixtures('read_each_metafile_once')
ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
ROW = '1xb4-300_street-scenes-128x256'
PAIR = 'pspnet-r34-d16-to-pspnet-r18-d32'
BASELINE = str(ROOT / f'configs/baseline/baseline_pspnet-r18-d32_{ROW}.py')


@pytest.fixture(scope='module')
def read(load):
    return load('methods_plan').read_config


def config(method, pair=PAIR, row=ROW):
    return str(ROOT / f'configs/{method}/{method}_{pair}_{row}.py')


# which configs


def names_of(entries):
    return {entry.name: Path(entry.config).name for entry in entries}


def test_methods_are_found_by_name_whatever_config_names_the_row(load):
    plan = load('methods_plan')
    expected = {
        'alone': f'baseline_pspnet-r18-d32_{ROW}.py',
        'kd': f'kd_{PAIR}_{ROW}.py',
        'mutual': f'mutual_{PAIR.replace("-to-", "-with-")}_{ROW}.py',
    }
    for start in (BASELINE, config('kd'), config('mutual', PAIR.replace('-to-', '-with-'))):
        found = names_of(plan.find_entries([start], ['kd', 'mutual', 'alone']))
        assert found == expected
    assert next(iter(found)) == 'alone'


def test_all_methods_of_a_row_come_from_the_files(load):
    plan = load('methods_plan')
    folders = {file.parent.name for file in (ROOT / 'configs').glob(f'*/*_*_{ROW}.py')}
    found = set(names_of(plan.find_entries([BASELINE], ['all'])))
    assert found == folders - {'baseline'} | {'alone'}
    assert {'kd', 'cwd', 'balkd', 'mutual', 'bdkd'} <= found


def test_an_ambiguous_or_missing_method_is_refused(load):
    plan = load('methods_plan')
    row = '4xb4-40k_cityscapes-512x1024.py'
    baseline = str(ROOT / f'configs/baseline/baseline_pspnet-r18_{row}')
    with pytest.raises(ValueError, match=r'one config of kd .*deeplabv3.*pspnet-r101.*as CONFIG'):
        plan.find_entries([baseline], ['kd'])
    with pytest.raises(ValueError, match=r'a config of magic .*found none.*balkd, bdkd'):
        plan.find_entries([BASELINE], ['magic'])
    with pytest.raises(FileNotFoundError, match=r'nothing\.py'):
        plan.find_entries(['nothing.py'], [])


def test_configs_of_other_names_are_compared_under_their_own(load, tmp_path):
    plan = load('methods_plan')
    for name in ('mine.py', 'mine_too.py'):
        (tmp_path / name).write_text(f'_base_ = {config("kd")!r}\n')
    files = [BASELINE, str(tmp_path / 'mine.py'), str(tmp_path / 'mine_too.py')]
    assert list(names_of(plan.find_entries(files, []))) == ['alone', 'mine', 'mine_too']
    with pytest.raises(ValueError, match='four fields'):
        plan.find_entries(files[1:], ['kd'])


def test_sweep_replaces_what_has_the_settings(load):
    plan = load('methods_plan')
    entries = plan.find_entries([BASELINE], ['kd', 'balkd'])
    grid = dict(forward_temperature=[1, 2], reverse_temperature=[4])
    found = plan.sweep(entries, grid)
    assert [entry.name for entry in found] == [
        'alone',
        'kd',
        'balkd forward_temperature=1 reverse_temperature=4',
        'balkd forward_temperature=2 reverse_temperature=4',
    ]
    assert found[-1].cell == dict(forward_temperature=2, reverse_temperature=4)
    with pytest.raises(ValueError, match=r'Expected magic to be settings .*PixelwiseKLLoss'):
        plan.sweep(entries, dict(magic=[1]))


def test_words_of_the_grid(load):
    tool = load('methods_plan')
    assert tool.read_grid(['delta=1,2.5', 'resize=label,none']) == dict(
        delta=[1, 2.5], resize=['label', 'none']
    )
    assert tool.read_grid(['x=None,image,1,1'])['x'] == [None, 'image', 1]
    assert load('methods_grid').in_order([2, None, 'image', 1, 2]) == [1, 2, None, 'image']
    with pytest.raises(ValueError, match=r"setting=value,value, but got 'delta'"):
        tool.read_grid(['delta'])


# what a run trains


def test_options_reach_what_they_name(load, read):
    module = load('methods_config')
    options = {
        'model.student.decode_head.channels': 8,
        'model.teacher.checkpoint': 'x.pth',
        'model.distill.0.loss_weight': 3.0,
        'train_cfg.max_iters': 7,
    }
    configs = [read(file) for file in (BASELINE, config('kd'))]
    alone, kd = (module.fitting(options, cfg) for cfg in configs)
    assert alone == {'model.decode_head.channels': 8, 'train_cfg.max_iters': 7}
    assert kd == options
    mutual = read(config('mutual', PAIR.replace('-to-', '-with-')))
    assert 'model.teacher.checkpoint' not in module.fitting(options, mutual)
    assert module.miou_key(mutual) == 'student/mIoU'
    assert module.teacher_options(options) == {'train_cfg.max_iters': 7}


def test_the_written_config_is_the_config(load, tmp_path):
    module, plan = load('methods_config'), load('methods_plan')
    cell = dict(forward_temperature=2.0)
    cfg = module.make_config(plan.Entry('balkd', config('balkd'), cell), {}, None, seed=5)
    (tmp_path / 'config.py').write_text(module.as_text(cfg))
    again = Config.fromfile(tmp_path / 'config.py')
    assert again.to_dict() == cfg.to_dict()
    assert again.randomness.seed == 5
    assert again.model.distill[0].forward_temperature == 2.0
    assert again.custom_hooks[-1].type == 'DistillTelemetryHook'
    assert again.default_hooks.checkpoint.save_best == 'mIoU'


def test_settings_that_differ_are_refused(load, read):
    module = load('methods_config')
    alone, kd = (read(file) for file in (BASELINE, config('kd')))
    module.check_same_settings(dict(alone=alone, kd=kd))
    kd.optim_wrapper.optimizer.lr = 0.5
    kd.model.student.decode_head.channels = 8
    with pytest.raises(ValueError, match=r'optim_wrapper, model\.student differ'):
        module.check_same_settings(dict(alone=alone, kd=kd))


def test_the_teacher_is_loaded_trained_or_missed(load, read, tmp_path):
    module = load('methods_config')
    kd = read(config('kd'))
    teacher = module.find_teacher([kd])
    assert module.find_source(teacher, quick=True).stem in teacher['checkpoint']
    (tmp_path / 'teacher.pth').touch()
    kd.model.teacher.checkpoint = str(tmp_path / 'teacher.pth')
    assert module.find_teacher([kd]) == kd.model.teacher.to_dict()
    assert module.find_source(kd.model.teacher, quick=False) is None
    other = read(config('kd'))
    with pytest.raises(ValueError, match='one teacher for all methods, but got several'):
        module.find_teacher([kd, other])
    kd.model.teacher.checkpoint = 'gone.pth'
    with pytest.raises(FileNotFoundError, match=r'gone\.pth.*model\.teacher\.checkpoint=PATH'):
        module.find_source(kd.model.teacher, quick=False)
    assert module.find_teacher([read(BASELINE)]) is None


# state on disk


def make_run(state, path, **about):
    text = 'seed = 0\n'
    basics = dict(name=path.name, config='kd.py', seed=0, cell={}, max_iters=4, taught=False)
    return state.RunFolder.create(path, {**basics, **about}, text)


def test_a_run_whose_settings_changed_is_refused(load, tmp_path):
    state = load('methods_state')
    run = make_run(state, tmp_path / 'kd')
    run.update(status='done')
    assert make_run(state, tmp_path / 'kd').read()['status'] == 'done'
    with pytest.raises(ValueError, match=r'changed since.*another --work-dir'):
        state.RunFolder.create(tmp_path / 'kd', {}, 'seed = 1\n')


def test_training_resumes_from_the_newest_whole_checkpoint(load, tmp_path):
    run = make_run(load('methods_state'), tmp_path / 'kd')
    assert not run.prepare_to_train()
    run.work.mkdir()
    for step in (1, 2, 3):
        torch.save(dict(state_dict=dict(w=torch.rand(2000))), run.work / f'iter_{step}.pth')
    whole = (run.work / 'iter_3.pth').read_bytes()
    (run.work / 'iter_3.pth').write_bytes(whole[: len(whole) // 2])
    (run.work / 'last_checkpoint').write_text(str(run.work / 'iter_1.pth'))
    assert run.prepare_to_train()
    assert (run.work / 'last_checkpoint').read_text() == str(run.work / 'iter_2.pth')
    assert not run.is_trained
    for step in (1, 2):
        (run.work / f'iter_{step}.pth').write_bytes(b'')
    assert not run.prepare_to_train()
    assert not run.work.exists()


def test_half_of_the_last_checkpoint_is_no_end_of_training(load, tmp_path):
    run = make_run(load('methods_state'), tmp_path / 'kd')
    run.work.mkdir()
    for step in (2, 4):
        torch.save(dict(state_dict=dict(w=torch.rand(2000))), run.work / f'iter_{step}.pth')
    (run.work / 'last_checkpoint').write_text(str(run.work / 'iter_4.pth'))
    last = run.work / 'iter_4.pth'
    last.write_bytes(last.read_bytes()[:1000])
    run.update(attempts=[dict(step='train', exit=-9)])
    assert not run.is_trained
    assert run.prepare_to_train()
    assert (run.work / 'last_checkpoint').read_text() == str(run.work / 'iter_2.pth')
    last.touch()
    run.update(attempts=[dict(step='train', exit=-9), dict(step='train', exit=0)])
    assert run.is_trained


def write_log(run, name, entries):
    file = run.work / name / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))


def test_what_was_trained_twice_counts_once(load, tmp_path):
    run = make_run(load('methods_state'), tmp_path / 'kd')
    write_log(run, '20260101_1', [dict(step=1, loss=9.0), dict(step=2, loss=8.0)])
    write_log(run, '20260101_2', [dict(step=2, loss=7.0), dict(step=2, mIoU=1.0)])
    assert run.log() == [dict(step=1, loss=9.0), dict(step=2, loss=7.0), dict(step=2, mIoU=1.0)]
    assert run.iteration == 2


def test_curves_of_the_student_alone(load):
    log = [
        {'step': 1, 'lr': 0.1, 'time': 3.0, 'decode.loss_ce': 1.0, 'aux.loss_ce': 5.0},
        {'step': 2, 'lr': 0.1, 'time': 1.0, 'decode.loss_ce': 2.0, 'distill.loss_kd': 0.5,
         'teacher.decode.loss_ce': 7.0},
        {'step': 2, 'student/mIoU': 12.0, 'teacher/mIoU': 30.0, 'time': 99.0},
        {'step': 3, 'lr': 0.1, 'time': 2.0},
    ]  # fmt: skip
    found = load('methods_curves').curves(log, 3)
    assert found['task'] == [[1, 1.0], [2, 2.0]]
    assert found['distill'] == [[2, 0.5]]
    assert found['val'] == [[2, 12.0]]
    assert found['seconds'] == 2.0


def test_curves_are_thinned_alike_however_far_a_run_came(load):
    thin = load('methods_curves').thin
    whole = thin([[step, 2 * step] for step in range(1, 601)], 600)
    assert len(whole) == 60
    assert whole[0] == [5.5, 11.0]
    assert thin([[step, 2 * step] for step in range(1, 301)], 600)[:29] == whole[:29]
    assert thin([[20, 1.0], [40, None]], 600) == [[20, 1.0], [40, None]]


def test_only_one_comparison_at_a_time(load, tmp_path, capsys):
    state, tool = load('methods_state'), load('benchmark_methods')
    with state.hold(tmp_path):
        assert tool.main([BASELINE, f'--work-dir={tmp_path}']) == 1
        assert 'another comparison' in capsys.readouterr().err
    state.hold(tmp_path).close()


def test_leaves_alone_what_is_not_a_comparison(load, tmp_path, capsys):
    tool = load('benchmark_methods')
    (tmp_path / 'thesis.txt').write_text('precious')
    assert tool.main([BASELINE, f'--work-dir={tmp_path}']) == 1
    assert 'empty or of a comparison' in capsys.readouterr().err
    assert tool.main(['--report-only', f'--work-dir={tmp_path / "none"}']) == 1
    assert 'none to report' in capsys.readouterr().err


def test_a_command_stopped_while_planning_goes_on(load, tmp_path, monkeypatch):
    tool, state = load('benchmark_methods'), load('methods_state')
    (tmp_path / 'suite.json.77').write_text('{')  # of a command killed before that
    monkeypatch.setattr(tool, 'Work', lambda *args: SimpleNamespace(do=lambda: None))
    create = state.RunFolder.create
    stop = [True]

    def once(path, about, config):
        run = create(path, about, config)
        if stop:
            stop.clear()
            raise KeyboardInterrupt
        return run

    monkeypatch.setattr(state.RunFolder, 'create', once)
    words = [BASELINE, '--seeds', '0', '1', '0', f'--work-dir={tmp_path}']
    assert tool.main(words) == 130
    assert tool.main(words) == 1  # nothing is trained
    runs = json.loads((tmp_path / 'suite.json').read_text())['runs']
    assert [run['folder'] for run in runs] == ['runs/alone/seed-0', 'runs/alone/seed-1']


# processes

TRAIN = """
import json, os, pathlib, signal, sys, time
work = pathlib.Path(sys.argv[2].split('=')[1])
name = work.parent.name
start = time.monotonic()
while name == 'patient' and time.monotonic() - start < 60:
    if (work.parent.parent / 'alone' / 'train' / 'iter_4.pth').exists():
        break
    time.sleep(0.02)
if name == pathlib.Path(__file__).with_name('breaks').read_text():
    print('about to break')
    if name == 'stopped':
        os.kill(os.getpid(), signal.SIGTERM)
    raise SystemExit('broken on purpose')
(work / 'x' / 'vis_data').mkdir(parents=True)
(work / 'x' / 'vis_data' / 'scalars.json').write_text(json.dumps({'step': 4}) + chr(10))
(work / 'device').write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))
(work / 'iter_4.pth').touch()
(work / 'last_checkpoint').write_text('iter_4.pth')
"""
MEASURE = """
import pathlib, sys
(pathlib.Path(sys.argv[1]) / 'measured.json').write_text('{}')
"""


@pytest.fixture
def fake(load, tmp_path, monkeypatch):
    """Return what is needed to work with stand-ins for training and measuring."""
    work = load('methods_work')
    tools = tmp_path / 'tools'
    tools.mkdir()
    (tools / 'train.py').write_text(TRAIN)
    (tools / 'methods_measure.py').write_text(MEASURE)
    monkeypatch.setattr(work, 'TOOLS', tools)
    monkeypatch.setattr(work, 'POLL_SECONDS', 0.02)

    def do(runs, teacher, breaks, jobs=2):
        (tools / 'breaks').write_text(breaks)
        with load('methods_state').hold(tmp_path) as lock:
            work.Work(runs, teacher, lock, jobs).do()
        return {run.path.name: run.read()['status'] for run in runs}

    return do


def test_a_failed_run_is_told_kept_and_not_repeated(fake, load, tmp_path, capsys):
    state = load('methods_state')
    runs = [make_run(state, tmp_path / name) for name in ('alone', 'kd')]
    assert fake(runs, None, 'kd') == dict(alone='done', kd='failed')
    about = runs[1].read()
    assert about['reason'] == 'train ended with exit status 1'
    assert about['tail'].endswith('about to break\nbroken on purpose\n')
    assert 'kd seed 0: FAILED' in capsys.readouterr().out
    assert fake(runs, None, '') == dict(alone='done', kd='failed')
    runs[1].update(status='waiting')  # --retry
    assert fake(runs, None, '') == dict(alone='done', kd='done')
    assert [len(run.read()['attempts']) for run in runs] == [2, 3]


def test_without_its_teacher_a_run_fails_and_the_others_go_on(fake, load, tmp_path):
    state = load('methods_state')
    teacher = make_run(state, tmp_path / 'teacher', seed=None)
    runs = [teacher, make_run(state, tmp_path / 'kd', taught=True)]
    runs.append(make_run(state, tmp_path / 'alone'))
    assert fake(runs, teacher, 'teacher') == dict(teacher='failed', kd='failed', alone='done')
    assert runs[1].read()['reason'] == 'the teacher failed'


def test_a_student_alone_trains_beside_its_teacher_and_is_measured_after(fake, load, tmp_path):
    state = load('methods_state')
    teacher = make_run(state, tmp_path / 'patient', seed=None)  # waits for the student alone
    alone = make_run(state, tmp_path / 'alone')
    assert fake([teacher, alone], teacher, '') == dict(patient='done', alone='done')
    times = [
        file.stat().st_mtime_ns
        for file in (alone.work / 'iter_4.pth', teacher.measured, alone.measured)
    ]
    assert times == sorted(times)
    assert f'--teacher={teacher.path}' in (alone.path / 'test.log').read_text()
    for run in (teacher, alone):
        assert [one['step'] for one in run.read()['attempts']] == ['train', 'test']


def test_processes_take_the_devices_in_turn(fake, load, tmp_path, monkeypatch):
    state, work = load('methods_state'), load('methods_work')
    runs = [make_run(state, tmp_path / name) for name in ('alone', 'kd', 'cwd')]

    def seen(count, visible):
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if visible is not None:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        return work.cuda_devices()

    assert seen(0, None) == []
    assert seen(0, '') == []
    assert seen(2, '5,GPU-1a,-1') == ['5', 'GPU-1a']
    assert seen(1, None) == ['0']
    fake(runs[:1], None, '')
    assert (runs[0].work / 'device').read_text() == 'all'
    runs[0].update(status='waiting', attempts=[])
    assert seen(2, None) == ['0', '1']
    fake(runs, None, '', jobs=3)
    assert [(run.work / 'device').read_text() for run in runs] == ['0', '1', '0']


def test_an_attempt_tells_its_commit(fake, load, tmp_path, monkeypatch):
    commits = iter(('1a', '2b'))
    monkeypatch.setattr(load('methods_work'), 'find_commit', lambda: next(commits))
    run = make_run(load('methods_state'), tmp_path / 'kd')
    fake([run], None, '')
    assert [one['commit'] for one in run.read()['attempts']] == ['1a', '2b']


def test_all_processes_end_before_the_disk_is_full(load):
    done = []

    def job(name):
        def note(_):
            done.append(f'note {name}')
            raise OSError(28, 'No space left on device')

        process = SimpleNamespace(
            terminate=lambda: done.append(f'end {name}'), wait=lambda: done.append(f'wait {name}')
        )
        return SimpleNamespace(process=process, note=note)

    with pytest.raises(OSError, match='No space left'):
        load('methods_work').stop([job('kd'), job('cwd')])
    assert done == ['end kd', 'end cwd', 'wait kd', 'wait cwd', 'note kd']


def test_half_of_the_best_checkpoint_is_not_measured(load, tmp_path, capsys):
    best = tmp_path / 'best_mIoU_iter_2.pth'
    torch.save(dict(state_dict=dict(w=torch.rand(2000))), best)
    best.write_bytes(best.read_bytes()[:1000])
    assert load('methods_measure').read_best(Config.fromfile(BASELINE), best) is None
    said = capsys.readouterr().out
    assert said.startswith('The best checkpoint is not measured. Expected')
    assert str(best) in said


def test_a_run_that_somebody_stops_has_not_failed(fake, load, tmp_path, capsys):
    run = make_run(load('methods_state'), tmp_path / 'stopped')
    assert fake([run], None, 'stopped') == dict(stopped='training')
    assert 'stopped from outside' in capsys.readouterr().out
    assert fake([run], None, '') == dict(stopped='done')


def test_time_left_leaves_failed_runs_out(load, tmp_path):
    state, work = load('methods_state'), load('methods_work')
    runs = [make_run(state, tmp_path / name, max_iters=100) for name in ('alone', 'kd', 'cwd')]
    progress = work.Progress(runs)
    progress.start -= 60
    assert progress.left() == '0/3 runs'
    runs[0].update(status='failed')
    write_log(runs[1], 'x', [dict(step=50)])
    # 50 iterations in a minute, 150 to come
    assert progress.left() == '1/3 runs, 3:00 left'


def test_a_stopped_teacher_ends_the_command(fake, load, tmp_path):
    state = load('methods_state')
    teacher = make_run(state, tmp_path / 'stopped', seed=None)
    runs = [teacher, make_run(state, tmp_path / 'kd', taught=True)]
    assert fake(runs, teacher, 'stopped') == dict(stopped='training', kd='waiting')
    assert fake(runs, teacher, '') == dict(stopped='done', kd='done')


# report


def test_a_report_without_a_finished_run_tells_what_became_of_them(load, tmp_path):
    state = load('methods_state')
    folders = [f'runs/{name}/seed-0' for name in ('alone', 'kd')]
    for folder in folders:
        make_run(state, tmp_path / folder, name=folder.split('/')[1])
    failed = state.RunFolder(tmp_path / folders[1])
    failed.update(status='failed', reason='train ended with exit status 1', tail='a <b> c\n')
    runs = [{'name': folder.split('/')[1], 'folder': folder} for folder in folders]
    about = dict(options={}, quick=False, jobs=1, commands=[], runs=runs)
    state.write_json(tmp_path / 'suite.json', about)
    results = load('methods_report').write_report(tmp_path)
    assert results['methods'][1]['failed'] == [0]
    table = (tmp_path / 'report.md').read_text()
    assert '| 0/1, 1 failed | `kd.py` |' in table
    assert '**kd seed 0**: failed: train ended with exit status 1' in table
    assert '**alone seed 0**: waiting' in table
    page = (tmp_path / 'report.html').read_text()
    assert '<pre>a &lt;b&gt; c' in page
    assert '<li>alone seed 0: waiting</li>' in page


def swept(forward, reverse, score):
    cell = dict(forward_temperature=forward, reverse_temperature=reverse)
    return dict(name='balkd x', config='balkd.py', cell=cell, val=dict(mean=score))


def test_heat_map_has_a_cell_for_each_choice(load):
    methods = [swept(1, 1, 10.0), swept(2, 1, 20.0), swept(1, 4, 30.0), swept(2, 4, None)]
    alone = dict(name='alone', config='a.py', cell={}, val=dict(mean=5.0))
    (table,) = load('methods_grid').grid_tables(dict(methods=[alone, *methods]), 'val')
    assert table.title == 'balkd'
    assert table.columns == ('forward_temperature', [1, 2])
    assert table.rows == ('reverse_temperature', [1, 4])
    assert table.table[0] == [10.0, 20.0]
    assert table.table[1][0] == 30.0
    assert math.isnan(table.table[1][1])
    figure = load('methods_figures').draw_heat_map(
        np.array(table.table), table.rows, table.columns, 'mIoU'
    )
    assert all(f'>{text}</text>' in figure for text in ('10.00', '20.00', '30.00', '-'))


def test_telemetry_is_thinned_by_term(load, tmp_path):
    module = load('methods_curves')
    line = dict.fromkeys(module.WATCHED, 1.0)
    rows = [
        dict(line, step=step, learner=learner, source='x', loss_name='loss_kd', task_gradient=None)
        for step in range(1, 121)
        for learner in ('student', 'teacher')
    ]
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (tmp_path / 'telemetry.jsonl').write_text(text + '{"half')
    found = module.telemetry(tmp_path / 'telemetry.jsonl', 120)
    assert list(found) == ['loss_kd', 'teacher.loss_kd']
    assert found['loss_kd']['step'][:2] == [1.5, 3.5]
    assert len(found['loss_kd']['step']) == module.POINTS
    assert found['loss_kd']['task_gradient'][0] is None
    assert module.telemetry(tmp_path / 'none', 120) == {}


def test_disagreement_has_four_colours_and_blank(load):
    module = load('methods_gallery')
    truth = np.array([[0, 0, 0, 0, 255]])
    theirs, ours = np.array([[0, 1, 0, 1, 0]]), np.array([[0, 0, 1, 1, 0]])
    picture = module.disagreement(truth, theirs, ours, 255)
    shown = ['#' + bytes(pixel[::-1]).hex() for pixel in picture[0]]
    assert shown == [module.BOTH, module.OURS, module.THEIRS, module.NEITHER, '#ffffff']
    blank = (module.disagreement(truth, theirs, ours, 0) == 255).all(-1)
    assert blank[0].tolist() == [True] * 4 + [False]  # of a network that leaves out label 0


# a whole one


def children_are_gone(state, work):
    for _ in range(100):
        try:
            state.hold(work).close()
        except ValueError:
            time.sleep(0.1)
        else:
            return True
    return False


@pytest.mark.slow
def test_whole_comparison_killed_and_started_again(load, tmp_path, capsys):
    tool, state = load('benchmark_methods'), load('methods_state')
    work = tmp_path / 'work'
    options = ['--quick', '--methods', 'kd', f'--work-dir={work}']
    command = [sys.executable, '-W', 'ignore', str(TOOLS / 'benchmark_methods.py'), *options]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    with (tmp_path / 'out').open('w') as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        checkpoint = work / 'runs/kd/seed-0/train/last_checkpoint'
        deadline = time.monotonic() + 600
        while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert checkpoint.exists(), (tmp_path / 'out').read_text()
    assert children_are_gone(state, work)
    runs = {name: state.RunFolder(work / f'runs/{name}') for name in ('alone/seed-0', 'kd/seed-0')}
    assert runs['alone/seed-0'].read()['status'] == 'done'
    assert runs['kd/seed-0'].read()['status'] == 'training'
    finished = runs['alone/seed-0'].measured.stat().st_mtime_ns

    # what the work dir says is enough to go on
    assert tool.main(['--jobs=2', f'--work-dir={work}']) == 0, capsys.readouterr().err
    assert 'kd seed 0: goes on at' in capsys.readouterr().out
    assert runs['alone/seed-0'].measured.stat().st_mtime_ns == finished
    attempts = {name: [a['step'] for a in run.read()['attempts']] for name, run in runs.items()}
    assert attempts == {'alone/seed-0': ['train', 'test'], 'kd/seed-0': ['train', 'test']}
    assert '--resume' in (work / 'runs/kd/seed-0/train.log').read_text()
    steps = [entry['step'] for entry in runs['kd/seed-0'].log() if 'lr' in entry]
    assert steps == [1, 2, 3, 4]
    lines = (work / 'runs/kd/seed-0/train/telemetry.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [1, 2, 3, 4]
    check_report(work)

    # again: nothing runs, and the same comes out
    before = (work / 'report.json').read_text()
    assert tool.main(options) == 0
    assert (work / 'report.json').read_text() == before
    assert 'starts' not in capsys.readouterr().out
    assert tool.main([*options, '--cfg-options', 'train_cfg.max_iters=9']) == 1
    assert 'another --work-dir' in capsys.readouterr().err

    # later: networks that train together, and a projection that is trained but not deployed
    more = ['--quick', '--methods', 'mutual', 'fitnet', '--jobs=2', f'--work-dir={work}']
    assert tool.main(more) == 0, capsys.readouterr().err
    check_other_forms(work)


def deployed_parameters():
    model = Config.fromfile(BASELINE).model
    network = MODELS.build({**model, 'auxiliary_head': None, 'pretrained': None})
    return sum(parameter.numel() for parameter in network.parameters())


def check_other_forms(work):
    results = json.loads((work / 'report.json').read_text())
    runs = {run['name']: run for run in results['runs']}
    assert list(runs) == ['teacher', 'alone', 'kd', 'mutual', 'fitnet']
    assert {run['status'] for run in runs.values()} == {'done'}
    assert list(runs['mutual']['telemetry']) == ['loss_kd', 'teacher.loss_kd']
    assert {term['learner'] for term in runs['mutual']['terms']} == {'student', 'teacher'}
    ratio = runs['fitnet']['telemetry']['loss_fitnet']['gradient']
    assert all(value > 0 for value in ratio)
    assert {runs[name]['cost']['parameters'] for name in ('alone', 'mutual', 'fitnet')} == {
        deployed_parameters()
    }


def check_report(work):
    results = json.loads((work / 'report.json').read_text())
    assert [method['name'] for method in results['methods']] == ['teacher', 'alone', 'kd']
    for run in results['runs']:
        assert run['status'] == 'done'
        assert 0 <= run['scores']['test'] <= 100
        assert run['scores']['val_best'] >= run['scores']['val']
        assert run['cost']['latency_ms']['q1'] <= run['cost']['latency_ms']['q3']
        assert run['scores']['memory_mb'] > 100
    alone, kd = results['methods'][1:]
    assert kd['cost']['parameters'] == alone['cost']['parameters'] == deployed_parameters()
    assert kd['cost']['flops'] == alone['cost']['flops'] > 1e8
    assert kd['against']['alone']['val']['words'] == 'one seed: no statement'
    assert 0 <= kd['agreement']['mean'] <= 100
    assert len(kd['IoU']) == len(results['classes']) == 19
    assert kd['cell'] == {}
    table = (work / 'report.md').read_text()
    assert re.search(r'\| kd \| .* \| 1/1 \| `configs/kd/kd_', table)
    assert 'one seed: no statement' in table
    page = (work / 'report.html').read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count('data:image/svg+xml') >= 3 + 2 + 8
    assert page.count('data:image/png') == 2 * 5
    assert page.count('data:image/jpeg') == 2
