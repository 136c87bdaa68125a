import importlib.util
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def load_tool(monkeypatch):
    """Return a function that imports a script, with its folder on the path as when it runs."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def demo(load_tool):
    return load_tool('demo')


@pytest.mark.slow
def test_whole_demo_at_toy_size(demo, monkeypatch, tmp_path, capsys):
    work = tmp_path / 'work'
    options = ['--quick', f'--work-dir={work}']
    assert demo.main(options) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.endswith('.pth')]
    assert [line.split()[-1] for line in table] == [
        str(work / name)
        for name in ('teacher/iter_3.pth', 'alone/iter_2.pth', 'distilled/iter_2.pth')
    ]
    assert '22.7 M' in table[0]
    assert '12.6 M' in table[1]
    assert '12.6 M' in table[2]
    mious = [json.loads((work / name / 'result.json').read_text())['mIoU'] for name in demo.CONFIGS]
    assert all(f'{miou:.2f}' in line for miou, line in zip(mious, table, strict=True))
    verdict = 'better' if mious[2] >= mious[1] else 'worse'
    assert f'student is {verdict} by {abs(mious[2] - mious[1]):.2f} mIoU' in out
    assert cv2.imread(str(work / 'comparison.png')).std() > 20

    student = MODELS.build(Config.fromfile(work / 'alone.py').model)
    load_checkpoint(student, str(work / 'distilled/iter_2.pth'), strict=True)

    capsys.readouterr()

    # again: nothing is trained, and the same comes out
    def refuse(*args):
        raise AssertionError('trained again')

    monkeypatch.setattr(demo, 'draw_scenes', lambda *args: None)
    monkeypatch.setattr(demo, 'run', refuse)
    assert demo.main(options) == 0
    again = capsys.readouterr().out
    assert again.count('kept from the run before') == 3
    assert table == [line for line in again.splitlines() if line.endswith('.pth')]
    assert demo.main([*options, '--seed=1']) == 1
    assert 'Choose another --work-dir' in capsys.readouterr().err


def test_student_alone_and_distilled_differ_in_nothing_but_distillation(demo, tmp_path):
    configs = {
        name: Config.fromfile(demo.write_config(tmp_path, name, demo.FULL, seed=5))
        for name in demo.CONFIGS
    }
    alone, distilled = configs['alone'], configs['distilled']
    assert distilled.model.type == 'OfflineDistiller'
    assert distilled.model.student.to_dict() == alone.model.to_dict()
    assert distilled.model.teacher.checkpoint == str(tmp_path / 'teacher' / 'iter_400.pth')
    same = {'train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'}
    for key in {*same, 'randomness', 'val_evaluator', 'default_hooks'}:
        assert alone[key] == distilled[key], key
    assert alone.randomness.seed == 5
    assert alone.param_scheduler[-1].end == alone.train_cfg.max_iters
    pipeline = alone.train_dataloader.dataset.pipeline
    assert next(step for step in pipeline if 'crop_size' in step).crop_size == demo.FULL.crop
    assert alone.train_dataloader.dataset.data_root == str(tmp_path / 'scenes')


def test_failed_phase_shows_the_end_of_its_log(demo, monkeypatch, tmp_path, capsys):
    def fail(work, scale, seed):
        code = 'for i in range(30): print("line", i)\nraise SystemExit("out of luck")'
        progress = demo.Progress('drawing scenes', 1)
        demo.run(['-c', code], work / 'scenes.log', progress, lambda: 0)

    monkeypatch.setattr(demo, 'draw_scenes', fail)
    assert demo.main([f'--work-dir={tmp_path / "work"}']) == 1
    error = capsys.readouterr().err
    assert 'Failed: drawing scenes' in error
    assert 'out of luck' in error
    assert 'line 29\n' in error
    assert 'line 3\n' not in error
    assert 'scenes.log' in error


def test_interrupt_ends_the_phase_and_tells_how_to_go_on(demo, monkeypatch, tmp_path, capsys):
    def interrupt():
        raise KeyboardInterrupt

    def wait(work, scale, seed):
        progress = demo.Progress('drawing scenes', 1)
        demo.run(['-c', 'import time; time.sleep(60)'], work / 'log', progress, interrupt)

    monkeypatch.setattr(demo, 'draw_scenes', wait)
    start = time.monotonic()
    assert demo.main([f'--work-dir={tmp_path / "work"}']) == 130
    assert time.monotonic() - start < 30
    assert 'finished phases are kept' in capsys.readouterr().err


def test_leaves_a_folder_alone_that_is_not_a_demo(demo, tmp_path, capsys):
    (tmp_path / 'thesis.txt').write_text('precious')
    assert demo.main([f'--work-dir={tmp_path}']) == 1
    assert 'Choose another --work-dir' in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ['thesis.txt']


def test_progress_prints_quarters_and_the_time_left(demo, monkeypatch, capsys):
    now = iter([0.0, 10.0, 20.0, 30.0, 90.0])
    monkeypatch.setattr(demo.time, 'monotonic', lambda: next(now))
    progress = demo.Progress('training', 8)
    for done in (0, 2, 4):
        progress.show(done)
    progress.finish('mIoU 1.00')
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ['training 2/8', 'training 4/8, 0:20 left', 'training mIoU 1.00, 1:30']


def test_unfinished_line_of_a_log_is_left_for_later(demo, tmp_path):
    file = tmp_path / 'teacher' / '20260101' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('{"step": 10}\n{"step": 2')
    assert demo.read_log(tmp_path, 'teacher') == [{'step': 10}]


def test_figure_shows_labels_in_their_colours(load_tool, tmp_path):
    figure = load_tool('demo_figure')
    image = np.full((128, 256, 3), 77, np.uint8)
    truth = np.full((128, 256), 255, np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    cv2.imwrite(str(tmp_path / 'truth.png'), truth)
    road, car = np.zeros_like(truth), np.full_like(truth, 13)
    figure.write_figure(
        tmp_path / 'out.png',
        [tmp_path / 'image.png'] * 2,
        [tmp_path / 'truth.png'] * 2,
        {'a\nb': [road, car], 'c': [car, road]},
    )
    got = cv2.imread(str(tmp_path / 'out.png'))
    rows = [figure.TITLE + 64, figure.TITLE + 64 + 128 + figure.GAP]
    columns = [figure.GAP + 128 + number * (256 + figure.GAP) for number in range(4)]
    road, car = [128, 64, 128], [142, 0, 0]  # BGR
    assert [got[rows[0], x].tolist() for x in columns] == [[77] * 3, [0] * 3, road, car]
    assert [got[rows[1], x].tolist() for x in columns] == [[77] * 3, [0] * 3, car, road]
    legend = figure.draw_legend(got.shape[1])
    assert np.array_equal(got[-len(legend) :], legend)
    assert road in legend.reshape(-1, 3).tolist()
