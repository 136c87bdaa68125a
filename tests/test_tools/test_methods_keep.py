"""The figures of finished runs, kept in small files."""

import json

import pytest
import torch

SPLIT = dict(mIoU=50.0, IoU=[50.0, None], ECE=5.0, NLL=1.0, agreement=None, images=2, bins={})
MEASURED = dict(
    classes=['road', 'sky'], palette=None, test_is_val=False, val=SPLIT, test=SPLIT,
    cost=dict(latency_ms=dict(median=2.0)), test_of_best=float('nan'), date='', commit='abc',
    python='3', torch='2', balkd_seg='0', cpu='c', cores=2, threads=1, card=None,
)  # fmt: skip


def save(run, value, time=''):
    run.work.mkdir(exist_ok=True)
    weights = dict(a=torch.full((2,), value), b=torch.zeros(()))
    torch.save(dict(state_dict=weights, meta=dict(time=time)), run.checkpoint)


@pytest.fixture
def work(load, tmp_path):
    """Return a comparison: the teacher and kd are done, the student alone is not."""
    state = load('methods_state')
    runs = []
    for name, folder, seed in (
        ('teacher', 'runs/teacher', None),
        ('alone', 'runs/alone/seed-1', 1),
        ('kd loss_weight=2', 'runs/kd_loss_weight=2/seed-1', 1),
    ):
        about = dict(name=name, config='a.py', seed=seed, cell={}, max_iters=2)
        about['taught'] = name.startswith('kd')
        run = state.RunFolder.create(tmp_path / folder, about, 'model = dict()\n')
        if name != 'alone':
            run.measured.write_text(json.dumps(MEASURED))
            run.update(status='done')
            save(run, value=seed or 0)
        runs.append(dict(name=name, folder=folder))
    suite = dict(options={}, quick=False, jobs=1, runs=runs)
    state.write_json(tmp_path / 'suite.json', suite)
    return tmp_path


def test_it_keeps_what_is_finished_once(load, work, tmp_path, capsys):
    keep, out = load('methods_keep'), tmp_path / 'kept'
    assert keep.main([str(work), str(out)]) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        'kd_loss_weight=2_seed1.json',
        'teacher.json',
    ]

    def refuse(word):
        raise AssertionError(f'{word} is not JSON')

    text = (out / 'kd_loss_weight=2_seed1.json').read_text()
    kept = json.loads(text, parse_constant=refuse)
    assert kept['test']['IoU'] == [50.0, None]
    assert kept['scores']['val'] == 50.0
    assert kept['about']['commit'] == 'abc'
    teacher = json.loads((out / 'teacher.json').read_text())
    assert teacher['teacher_sha256'] is None
    assert kept['teacher_sha256'] == teacher['weights_sha256'] != kept['weights_sha256']
    assert keep.hash_weights('https://a.com/b.pth') is None
    assert keep.main([str(work), str(out)]) == 0
    assert capsys.readouterr().out.endswith('Nothing new.\n')


def test_the_same_weights_may_come_again_but_no_others(load, work, tmp_path):
    keep, out = load('methods_keep'), tmp_path / 'kept'
    run = load('methods_state').RunFolder(work / 'runs/teacher')
    keep.keep(work, out)
    before = (out / 'teacher.json').read_text()
    save(run, value=0, time='later')
    assert keep.keep(work, out) == []
    save(run, value=7)
    with pytest.raises(ValueError, match=r'Expected .*json to be of the weights .* another OUT'):
        keep.keep(work, out)
    assert (out / 'teacher.json').read_text() == before


def test_a_folder_without_a_comparison_is_named(load, tmp_path, capsys):
    keep = load('methods_keep')
    with pytest.raises(ValueError, match=r'Expected a comparison in .* Give the --work-dir'):
        keep.keep(tmp_path, tmp_path / 'kept')
    assert keep.main([str(tmp_path), str(tmp_path / 'kept')]) == 1
    assert 'Expected a comparison' in capsys.readouterr().err
