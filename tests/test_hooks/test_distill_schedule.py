"""Values by iteration, and what they do to training."""

import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

from balkd_seg.hooks import DistillScheduleHook
from balkd_seg.hooks.distill_schedule import Schedule

KD = dict(type='PixelwiseKLLoss')


def value(points, iteration, curve='linear'):
    return Schedule('loss_kd', 'loss_weight', points, curve).value(iteration)


def test_warm_up_plateau_and_decay():
    points = [(10, 0.0), (20, 1.0), (30, 1.0), (40, 0.5)]
    expected = {0: 0.0, 10: 0.0, 11: 0.1, 15: 0.5, 20: 1.0, 25: 1.0, 35: 0.75, 40: 0.5, 99: 0.5}
    assert {i: pytest.approx(value(points, i)) for i in expected} == expected


def test_cosine_is_half_a_wave_and_ends_exactly():
    points = [(0, 2.0), (100, 0.0)]
    for iteration in (0, 25, 50, 99):
        expected = 1 + math.cos(math.pi * iteration / 100)
        assert value(points, iteration, 'cosine') == pytest.approx(expected)
    assert value(points, 100, 'cosine') == 0.0


def test_step_stays_until_the_next_point():
    points = [(0, 1.0), (100, 0.0)]
    assert [value(points, i, 'step') for i in (0, 99, 100, 101)] == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize('curve', ['linear', 'cosine', 'step'])
def test_one_point_is_a_constant(curve):
    assert [value([(5, 0.3)], i, curve) for i in (0, 5, 9)] == [0.3] * 3


@pytest.fixture
def make_runner(make_distiller):
    """Return a function that puts a distiller into what the hook takes for a runner."""

    def make(distill, iteration=0):
        return SimpleNamespace(
            model=make_distiller(distill=distill),
            iter=iteration,
            message_hub=MessageHub(f'schedule-{torch.rand(1).item()}'),
        )

    return make


def test_values_are_set_logged_and_depend_on_the_iteration_alone(make_runner, make_batch):
    hook = DistillScheduleHook(
        [
            dict(loss='loss_kd', setting='loss_weight', points=[(0, 0.0), (10, 2.0)]),
            dict(loss='loss_kd', setting='temperature', points=[(0, 4.0), (10, 1.0)]),
        ]
    )
    runner = make_runner([KD])
    hook.before_train(runner)
    loss = runner.model.distill_terms[0].loss
    for iteration in (3, 7, 5):  # 5 last: a run that resumes there
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        assert loss.loss_weight == pytest.approx(0.2 * iteration)
        assert loss.forward_temperature == pytest.approx(4 - 0.3 * iteration)
        assert loss.reverse_temperature == loss.forward_temperature
        history = runner.message_hub.get_scalar('train/distill.kd_weight')
        assert history.current() == pytest.approx(0.2 * iteration)
    assert runner.message_hub.get_scalar('train/distill.kd_temperature').current() == 2.5
    torch.manual_seed(0)
    half = runner.model.loss(*make_batch())
    loss.loss_weight = 2.0
    torch.manual_seed(0)
    full = runner.model.loss(*make_batch())
    torch.testing.assert_close(2 * half['distill.loss_kd'], full['distill.loss_kd'])


def test_the_teacher_does_not_run_while_nothing_has_a_weight(make_runner, make_batch):
    points = [(0, 1.0), (2, 0.0), (3, 0.0), (4, 1.0)]
    hook = DistillScheduleHook(
        [dict(loss='loss_kd', setting='loss_weight', points=points, curve='step')]
    )
    runner, calls = make_runner([KD]), []
    runner.model.build_teacher()
    backbone = runner.model.teacher.network.backbone
    backbone.register_forward_hook(lambda *_: calls.append(runner.iter))
    for runner.iter in range(5):
        hook.before_train_iter(runner, 0)
        losses = runner.model.loss(*make_batch())
        assert ('distill.loss_kd' in losses) == (runner.iter not in (2, 3))
        assert 'decode.loss_ce' in losses
    assert calls == [0, 1, 4]


def test_a_projection_at_rest_takes_part_with_gradient_0(make_runner, make_batch):
    """Distributed training waits for the gradient of every weight."""
    cwd = dict(
        type='ChannelwiseKLLoss', student_tap='backbone.layer4', teacher_tap='backbone.layer4',
        resize='student', projection=dict(in_channels=64, out_channels=64),
    )  # fmt: skip
    runner = make_runner([cwd, KD])
    runner.model.distill_terms[0].loss.loss_weight = 0.0
    losses = runner.model.loss(*make_batch())
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert losses['distill.loss_cwd'] == 0
    assert runner.model.distill_terms[0].projection.weight.grad.abs().max() == 0


def test_a_term_of_a_peer_is_reached_by_its_name(make_segmentor):
    from mmseg.registry import MODELS

    model = MODELS.build(
        dict(
            type='MutualDistiller', student=make_segmentor(), peers=dict(teacher=make_segmentor()),
            distill=[KD, dict(KD, learner='teacher')],
        )
    )  # fmt: skip
    hub = MessageHub('schedule-of-a-peer')
    runner = SimpleNamespace(model=model, iter=0, message_hub=hub)
    schedule = dict(loss='teacher.loss_kd', setting='loss_weight', points=[(0, 0.5)])
    hook = DistillScheduleHook([schedule])
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert [term.loss.loss_weight for term in model.distill_terms] == [1.0, 0.5]
    assert hub.get_scalar('train/teacher.distill.kd_weight').current() == 0.5


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(curve='spline'), "`curve` of .* but got 'spline'"),
        (dict(points=[]), r'pairs \(iteration, value\), iterations being .* but got \[\]'),
        (dict(points=[(0, 1.0, 5.0)]), r'pairs \(iteration, value\)'),
        (dict(points=[(0.5, 1.0)]), 'integers from 0'),
        (dict(points=[(-1, 1.0)]), 'integers from 0'),
        (dict(points=[(5, 1), (5, 2)]), 'increasing iterations'),
        (dict(points=[(0, -1.0)]), 'to be at least 0, but got -1.0'),
        (dict(setting='temperature', points=[(0, 0.0)]), 'larger than 0, but got 0.0'),
        (dict(points=[(0, math.nan)]), 'at least 0, but got nan'),
    ],
)
def test_impossible_schedules_are_refused(change, message):
    schedule = dict(loss='loss_kd', setting='loss_weight', points=[(0, 1.0)])
    with pytest.raises(ValueError, match=message):
        DistillScheduleHook([{**schedule, **change}])


@pytest.mark.parametrize(
    ('settings', 'twice'),
    [
        (('loss_weight', 'loss_weight'), 'loss_kd.loss_weight'),
        (('temperature', 'reverse_temperature'), 'loss_kd.reverse_temperature'),
    ],
)
def test_two_schedules_of_one_setting_are_refused(settings, twice):
    schedules = [dict(loss='loss_kd', setting=name, points=[(0, 1.0)]) for name in settings]
    with pytest.raises(ValueError, match=f'several set {twice}'):
        DistillScheduleHook(schedules)
    schedules[1]['loss'] = 'teacher.loss_kd'
    DistillScheduleHook(schedules)


def test_an_annealed_loss_without_forward_weight_rests_at_the_start(make_runner, make_batch):
    annealed = dict(type='BalancedDivergenceLoss', anneal=True)
    runner, hub = make_runner([annealed]), MessageHub.get_current_instance()
    runner.model.distill_terms[0].loss.forward_weight = 0.0
    try:
        hub.update_info('max_iters', 10)
        for iteration, trains in ((0, False), (1, True)):
            hub.update_info('iter', iteration)
            assert ('distill.loss_balkd' in runner.model.loss(*make_batch())) == trains
    finally:
        hub.runtime_info.clear()


def test_no_schedule_is_refused():
    with pytest.raises(ValueError, match='at least one entry in `schedules`'):
        DistillScheduleHook([])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(loss='loss_x'), r"one of \['loss_kd'\], but got 'loss_x'"),
        (dict(setting='weight'), "a number that loss_kd has .* but got 'weight', which is None"),
        (dict(setting='anneal'), "but got 'anneal', which is False"),
        (dict(setting='ignore_index'), "but got 'ignore_index', which is 255"),
    ],
)
def test_what_the_model_lacks_is_refused_before_training(make_runner, change, message):
    schedule = dict(loss='loss_kd', setting='loss_weight', points=[(0, 1.0)])
    with pytest.raises(ValueError, match=message):
        DistillScheduleHook([{**schedule, **change}]).before_train(make_runner([KD]))
