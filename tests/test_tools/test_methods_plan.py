"""What a comparison refuses before it writes anything, and what it takes as the same."""

import json
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from balkd_seg.hooks import CheckDataHook, DistillTelemetryHook
from balkd_seg.metrics import NetworksMetric

pytestmark = pytest.mark.usefixtures('read_each_metafile_once')
ROOT = Path(__file__).parents[2]
ROW = '1xb4-300_street-scenes-128x256'
CAMVID = '1xb8-400_camvid-128x160'
PAIR = 'pspnet-r34-d16-to-pspnet-r18-d32'
BASELINE = str(ROOT / f'configs/baseline/baseline_pspnet-r18-d32_{ROW}.py')
KD = str(ROOT / f'configs/kd/kd_{PAIR}_{ROW}.py')
CWD = str(ROOT / f'configs/cwd/cwd_{PAIR}_{ROW}.py')
MUTUAL = str(ROOT / f'configs/mutual/mutual_{PAIR.replace("-to-", "-with-")}_{ROW}.py')


@pytest.fixture
def work(tmp_path):
    path = tmp_path / 'work'
    path.mkdir()
    return path


@pytest.fixture
def plan(load, work, monkeypatch):
    """Return what plans the runs of a command line, trains nothing, and names the folders."""
    tool = load('benchmark_methods')
    monkeypatch.setattr(tool, 'Work', lambda *args: SimpleNamespace(do=lambda: None))

    def do(*words):
        load('methods_plan')._read_once.cache_clear()  # every command reads the files anew
        args = tool.parse_args([*map(str, words), f'--work-dir={work}'])
        args.grid = tool.read_grid(args.grid)
        tool.train_all(args, work, None)
        suite = json.loads((work / 'suite.json').read_text())
        return [run['folder'].removeprefix('runs/') for run in suite['runs']]

    return do


def contents(work):
    return {file: file.read_text() for file in work.rglob('*') if file.is_file()}


# runs that would be pooled with others


RATE = 'optim_wrapper = dict(optimizer=dict(lr=0.5))\n'


@pytest.mark.parametrize('edited', ['settings', 'method'])
def test_a_config_that_changed_since_is_no_other_seed(plan, work, tmp_path, edited):
    alone, mine = tmp_path / 'alone.py', tmp_path / 'mine.py'
    texts = {alone: f'_base_ = {BASELINE!r}\n', mine: f'_base_ = {MUTUAL!r}\n'}
    for file, text in texts.items():
        file.write_text(text)
    first = plan(alone, mine)
    assert first == ['alone/seed-0', 'mine/seed-0']
    before = contents(work)
    if edited == 'settings':  # of both: the same, but not those of seed 0
        for file, text in texts.items():
            file.write_text(text + RATE)
    else:
        mine.write_text(texts[mine] + 'model = dict(fuse_task_loss=True)\n')
    with pytest.raises(ValueError, match=r'seed-0 to be those it was started with.*another'):
        plan(alone, mine, '--seeds', 1)
    assert contents(work) == before
    for file, text in texts.items():
        file.write_text(text)
    assert plan(alone, mine, '--seeds', 1) == [*first, 'alone/seed-1', 'mine/seed-1']


def test_a_new_method_is_held_to_the_student_alone_on_disk(plan, work, tmp_path):
    alone, mine = tmp_path / 'alone.py', tmp_path / 'mine.py'
    alone.write_text(f'_base_ = {BASELINE!r}\n')
    plan(alone, MUTUAL)
    before = contents(work)
    alone.write_text(f'_base_ = {BASELINE!r}\n{RATE}')
    mine.write_text(f'_base_ = {MUTUAL!r}\n{RATE}')
    with pytest.raises(ValueError, match=r'alone/seed-0 to be those it was started with'):
        plan(alone, mine, '--seeds', 1)
    assert contents(work) == before


def test_every_command_that_planned_is_kept(plan, work):
    plan(BASELINE)
    plan(MUTUAL, '--seeds', 1, 2)
    plan(MUTUAL, '--seeds', 1, 2)
    commands = json.loads((work / 'suite.json').read_text())['commands']
    alone, mutual = (str(Path(file).relative_to(ROOT)) for file in (BASELINE, MUTUAL))
    assert commands == [
        dict(configs=[alone], seeds=[0], grid={}),
        dict(configs=[alone, mutual], seeds=[1, 2], grid={}),
    ]


def test_a_loaded_teacher_is_the_network_of_the_config(plan, work, tmp_path):
    """With what stands beside it and at the top of the config in the right places."""
    alone, mine, checkpoint = (tmp_path / name for name in ('alone.py', 'mine.py', 'teacher.pth'))
    checkpoint.write_bytes(b'')
    alone.write_text(f'_base_ = {BASELINE!r}\n')
    teacher = dict(checkpoint=str(checkpoint), classes=['a'])
    mine.write_text(f'_base_ = {KD!r}\nmodel = dict(teacher={teacher})\n')
    assert plan(alone, mine) == ['teacher', 'alone/seed-0', 'mine/seed-0']
    cfg = Config.fromfile(work / 'runs/teacher/config.py')
    assert 'classes' not in cfg.model
    assert cfg.model.backbone.depth == 34
    assert cfg.model.data_preprocessor.mean[0] == pytest.approx(123.675)
    about = json.loads((work / 'runs/teacher/run.json').read_text())
    assert about['checkpoint'] == str(checkpoint)
    assert plan(alone, mine, '--seeds', 1)[0] == 'teacher'


@pytest.mark.parametrize('name', ['teacher', 'mutual'])
def test_two_runs_of_one_name_are_refused(plan, work, tmp_path, name):
    mine = tmp_path / f'{name}.py'
    mine.write_text(f'_base_ = {MUTUAL!r}\n')
    other = tmp_path / 'other' / mine.name
    other.parent.mkdir()
    other.write_text(mine.read_text())
    files = [mine] if name == 'teacher' else [mine, other]
    with pytest.raises(ValueError, match=rf'different names, but {name} is there twice.*Rename'):
        plan(BASELINE, *files)
    assert contents(work) == {}


def test_another_version_is_refused(plan, work):
    plan(BASELINE)
    suite = json.loads((work / 'suite.json').read_text())
    (work / 'suite.json').write_text(json.dumps({**suite, 'version': '0.0.1'}))
    before = contents(work)
    for words in ([], [BASELINE, '--seeds', 1]):
        with pytest.raises(ValueError, match=r'balkd_seg 0\.0\.1.*that version, or take another'):
            plan(*words)
    assert contents(work) == before


# settings that have to be the same


@pytest.mark.parametrize(('row', 'quick'), [(ROW, False), (CAMVID, False), (ROW, True)])
def test_all_methods_of_a_row_have_the_same_settings(load, row, quick):
    module, plan = load('methods_config'), load('methods_plan')
    baseline = str(ROOT / f'configs/baseline/baseline_pspnet-r18-d32_{row}.py')
    entries = plan.find_entries([baseline], ['all'])
    assert len(entries) > 15
    scenes = Path('scenes') if quick else None
    module.check_same_settings({e.name: module.make_config(e, {}, scenes) for e in entries})


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('load_from', 'start.pth'),
        ('custom_hooks', [dict(type='CheckDataHook'), dict(type='EMAHook')]),
        ('env_cfg.cudnn_benchmark', False),
        ('randomness.deterministic', True),
        ('val_evaluator.metric.0.iou_metrics', ['mDice']),
        ('test_cfg.type', 'OtherLoop'),
        ('default_hooks.checkpoint.rule', 'less'),
        ('auto_scale_lr', dict(enable=True, base_batch_size=16)),
        ('train_dataloader.dataset.pipeline.4.prob', 0.1),
        ('model_wrapper_cfg', dict(type='Wrapper')),
    ],
)
def test_whatever_the_training_reads_has_to_be_the_same(load, key, value):
    module, read = load('methods_config'), load('methods_plan').read_config
    alone, mutual = read(BASELINE), read(MUTUAL)
    mutual.merge_from_dict({'randomness.seed': 7, 'default_hooks.checkpoint.save_best': 'mIoU'})
    module.check_same_settings(dict(alone=alone, mutual=mutual))
    mutual.merge_from_dict({key: value})
    with pytest.raises(ValueError, match=rf'but {key.partition(".")[0]} differ too'):
        module.check_same_settings(dict(alone=alone, mutual=mutual))


def test_classes_are_what_their_names_are(load):
    """As Python-style configs have them, and names with a scope."""
    module, read = load('methods_config'), load('methods_plan').read_config
    alone, mutual = read(BASELINE), read(MUTUAL)
    mutual.custom_hooks = [
        dict(type=CheckDataHook), dict(type='mmseg.DistillStateHook'),
        dict(type=DistillTelemetryHook, interval=7),
    ]  # fmt: skip
    for evaluator in (mutual.val_evaluator, mutual.test_evaluator):
        evaluator.type = NetworksMetric
        evaluator.metric.append(dict(type='mmseg.CalibrationMetric'))
    module.check_same_settings(dict(alone=alone, mutual=mutual))
    assert module.miou_key(mutual) == 'student/mIoU'
    assert module._without(mutual.custom_hooks, DistillTelemetryHook) == mutual.custom_hooks[:2]


def test_nothing_that_the_runner_reads_is_forgotten(load):
    named = {'work_dir', 'launcher', 'resume', 'log_processor', 'log_level', 'visualizer'}
    named |= {'experiment_name', 'cfg', 'model', 'data_preprocessor'}  # the last two: the student's
    assert set(signature(Runner).parameters) - named == {*load('methods_config').SAME} - {
        'model_wrapper_cfg'
    }


def test_the_images_of_the_student_may_be_described_in_either_place(load):
    module, read = load('methods_config'), load('methods_plan').read_config
    alone, kd = read(BASELINE), read(KD)
    kd.pop('data_preprocessor')  # the student has its own
    module.check_same_settings(dict(alone=alone, kd=kd))
    kd.model.student.data_preprocessor.mean = [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r'but model\.student differ'):
        module.check_same_settings(dict(alone=alone, kd=kd))


# one process, by iterations


def test_a_config_for_several_gpus_needs_a_batch_size(load):
    module, plan = load('methods_config'), load('methods_plan')
    name = 'baseline_pspnet-r18_4xb4-40k_cityscapes-512x1024.py'
    entry = plan.Entry('alone', str(ROOT / 'configs/baseline' / name), {})
    with pytest.raises(ValueError, match=r'is for 4 of 4 images.*train_dataloader\.batch_size=16'):
        module.make_config(entry, {}, None)
    cfg = module.make_config(entry, {'train_dataloader.batch_size': 16}, None)
    assert cfg.train_dataloader.batch_size == 16


def test_a_schedule_by_epochs_is_refused(load, tmp_path):
    module, plan = load('methods_config'), load('methods_plan')
    epochs = "dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=3)"
    (tmp_path / 'mine.py').write_text(f'_base_ = {BASELINE!r}\ntrain_cfg = {epochs}\n')
    with pytest.raises(ValueError, match=r"by iterations.*mine\.py has .*'max_epochs': 3"):
        module.make_config(plan.Entry('alone', str(tmp_path / 'mine.py'), {}), {}, None)


# options


def test_arguments_of_a_distiller_reach_distillers_only(load):
    module, read = load('methods_config'), load('methods_plan').read_config
    options = {'model.fuse_task_loss': True, 'model.student.test_cfg.mode': 'slide'}
    options |= {'model.peers.teacher.pretrained': 'x.pth', 'experiment_name': 'mine'}
    alone, kd, mutual = (set(module.fitting(options, read(f))) for f in (BASELINE, KD, MUTUAL))
    assert alone == {'model.test_cfg.mode', 'experiment_name'}
    assert kd == {'model.fuse_task_loss', 'model.student.test_cfg.mode', 'experiment_name'}
    assert mutual == set(options)
    module.check_options(options, [read(f) for f in (BASELINE, KD, MUTUAL)])


def test_an_option_of_the_second_term_reaches_who_has_one(load):
    module, read = load('methods_config'), load('methods_plan').read_config
    option = {'model.distill.1.loss_weight': 2.0}
    assert module.fitting(option, read(KD)) == {}
    assert module.fitting(option, read(MUTUAL)) == option


def test_the_seed_is_no_option(load):
    cfg = load('methods_plan').read_config(KD)
    with pytest.raises(ValueError, match=r'Expected --seeds instead of'):
        load('methods_config').check_options({'randomness.seed': 7}, [cfg])


def test_a_config_without_checkpoints_is_refused(load, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(f'_base_ = {KD!r}\ndefault_hooks = dict(_delete_=True)\n')
    module, plan = load('methods_config'), load('methods_plan')
    with pytest.raises(ValueError, match=r'default_hooks\.checkpoint in .*mine\.py'):
        module.make_config(plan.Entry('mine', str(file), {}), {}, None)


@pytest.mark.parametrize('option', ['optim_wraper.lr', 'model.fuse_task_loss', 'model.x', 'model'])
def test_an_option_without_a_place_is_refused(plan, work, option):
    with pytest.raises(ValueError, match=rf'place in one of the configs, but {option} has none'):
        plan(BASELINE, '--cfg-options', f'{option}=1')
    assert contents(work) == {}


def test_an_option_may_be_for_the_methods_of_the_first_command(plan):
    option = ['--cfg-options', 'model.peers.teacher.pretrained=x.pth']
    plan(MUTUAL, *option)
    assert len(plan(BASELINE, '--seeds', 1, *option)) == 3


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        ('--seeds 0', '--seeds'),
        ('--methods kd', '--methods'),
        ('--cfg-options a=1', '--cfg-options'),
        ('--grid a=1', '--grid'),
        ('--quick', '--quick'),
        ('--quick --seeds 1', '--seeds, --quick'),
    ],
)
def test_words_that_only_plan_need_a_config(load, capsys, words, named):
    with pytest.raises(SystemExit):
        load('benchmark_methods').parse_args(words.split())
    assert f'expected a CONFIG with {named}, but got none' in capsys.readouterr().err


def test_what_needs_no_config(load):
    tool = load('benchmark_methods')
    args = tool.parse_args(['--jobs=2', '--retry', '--report-only'])
    assert args.config == []
    args = tool.parse_args(['--quick', '--methods', 'kd'])
    assert (args.config, args.seeds) == ([str(ROOT / tool.QUICK_CONFIG)], [0])


# the teacher


def test_a_teacher_trained_here_stays_the_teacher(plan, work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = plan(KD)
    assert first == ['teacher', 'alone/seed-0', 'kd/seed-0']
    elsewhere = tmp_path / f'work_dirs/baseline_pspnet-r34-d16_{ROW.replace("300", "600")}'
    elsewhere.mkdir(parents=True)
    (elsewhere / 'iter_600.pth').touch()
    before = (work / 'runs/teacher/config.py').read_text()
    assert plan(KD, CWD)[3:] == ['cwd/seed-0']
    assert (work / 'runs/teacher/config.py').read_text() == before
    taught = (work / 'runs/cwd/seed-0/config.py').read_text()
    assert str(work / 'runs/teacher/train/iter_600.pth') in taught


def test_a_loaded_teacher_is_the_same_for_every_method(plan, work, tmp_path):
    (tmp_path / 'teacher.pth').touch()
    mine, other = tmp_path / 'mine.py', tmp_path / 'other.py'
    text = (
        f'_base_ = {KD!r}\nmodel = dict(teacher=dict(checkpoint={str(tmp_path / "teacher.pth")!r}))'
    )
    mine.write_text(text + "\ncustom_hooks = [dict(type='DistillScheduleHook')]\n")
    other.write_text(text + '\n')
    first = plan(BASELINE, mine)
    assert first == ['teacher', 'alone/seed-0', 'mine/seed-0']
    assert plan(BASELINE, other) == [*first, 'other/seed-0']
    about = json.loads((work / 'runs/teacher/run.json').read_text())
    assert about['checkpoint'] == about['asked']['checkpoint'] == str(tmp_path / 'teacher.pth')
    before = contents(work)
    (tmp_path / 'better.pth').touch()
    other.write_text(text.replace('teacher.pth', 'better.pth') + '\n')
    with pytest.raises(
        ValueError, match=r'the teacher that .*teacher\.pth.* but got .*better\.pth'
    ):
        plan(BASELINE, other, '--seeds', 1)
    assert contents(work) == before
    (tmp_path / 'teacher.pth').write_text('trained again')
    for words in ([], [BASELINE, mine, '--seeds', 1]):
        with pytest.raises(ValueError, match=r'teacher\.pth to be the file .* content changed'):
            plan(*words)
    (tmp_path / 'teacher.pth').write_text('')
    plan()
