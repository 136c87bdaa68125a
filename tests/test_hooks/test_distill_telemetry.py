"""What is written, against autograd by hand, and that training does not notice."""

import copy
import functools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS

from balkd_seg.distillers.taps import record_taps
from balkd_seg.hooks import DistillTelemetryHook
from balkd_seg.hooks.distill_telemetry import _gradient

KD = dict(type='PixelwiseKLLoss', loss_weight=2.0)
LOGITS = 'decode_head'


@pytest.fixture
def make_mutual(make_segmentor):
    """Return a function that builds a MutualDistiller of two tiny networks."""

    def make(**settings):
        torch.manual_seed(0)
        model = MODELS.build(
            dict(
                type='MutualDistiller',
                student=make_segmentor(),
                peers=dict(teacher=make_segmentor(depth=34)),
                distill=[KD, dict(type='BalancedDivergenceLoss', learner='teacher')],
                **settings,
            )
        )
        model.init_weights()
        return model

    return make


def train(model, make_batch, work, steps=4, interval=2, start=0, watched=True):
    """Train as mmengine's loop does and return the model."""
    optimizer = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)))
    runner = SimpleNamespace(model=model, work_dir=str(work), iter=start)
    hook = DistillTelemetryHook(interval)
    if watched:
        hook.before_train(runner)
    model.train()
    torch.manual_seed(start)
    for index in range(start, start + steps):
        runner.iter = index
        inputs, samples = make_batch(seed=index)
        data = dict(inputs=list(inputs.mul(50).add(100)), data_samples=samples)
        if watched:
            hook.before_train_iter(runner, index, data)
        model.train_step(data, optimizer)
        if watched:
            hook.after_train_iter(runner, index, data)
    return model


def lines_of(work):
    return [json.loads(line) for line in (work / 'telemetry.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('fuse', [False, True])
@pytest.mark.parametrize('kind', ['offline', 'mutual'])
def test_weights_are_bitwise_the_same_with_and_without(
    kind, fuse, make_distiller, make_mutual, make_batch, tmp_path
):
    def build():
        if kind == 'mutual':
            return make_mutual(fuse_task_loss=fuse)
        model = make_distiller(distill=[KD], fuse_task_loss=fuse)
        model.init_weights()
        return model

    torch.manual_seed(1)
    plain = build()
    twin = copy.deepcopy(plain)
    train(plain, make_batch, tmp_path, watched=False)
    after_plain = torch.get_rng_state()
    train(twin, make_batch, tmp_path)
    assert torch.equal(torch.get_rng_state(), after_plain)
    first, second = dict(plain.named_parameters()), dict(twin.named_parameters())
    assert len(first) == len(second) > 50
    assert all(torch.equal(first[name], second[name]) for name in first)
    buffers = dict(twin.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in plain.named_buffers())
    found = lines_of(tmp_path)
    assert [line['step'] for line in found] == ([2, 4] if kind == 'offline' else [2, 2, 4, 4])
    assert not any(module._forward_hooks for module in twin.modules())


def by_hand(model, make_batch):
    """Return the losses of one step and the logits, with their graph."""
    inputs, samples = make_batch(seed=0)
    images = model.data_preprocessor(
        dict(inputs=list(inputs.mul(50).add(100)), data_samples=samples), True
    )
    model.train()
    torch.manual_seed(0)
    with record_taps(model.student, [LOGITS], 'student') as outputs:
        losses = model.loss(images['inputs'], images['data_samples'])
    return losses, outputs[LOGITS]


@pytest.mark.parametrize('fuse', [False, True])
def test_gradients_are_those_of_the_logits(fuse, make_distiller, make_batch, tmp_path):
    torch.manual_seed(1)
    model = make_distiller(distill=[KD], fuse_task_loss=fuse)
    model.init_weights()
    apart = make_distiller(distill=[KD])
    apart.init_weights()
    apart.load_state_dict(model.state_dict())
    losses, logits = by_hand(apart, make_batch)
    expected = [
        torch.autograd.grad(losses[key], logits, retain_graph=True)[0].norm()
        for key in ('distill.loss_kd', 'decode.loss_ce')
    ]
    train(model, make_batch, tmp_path, steps=1, interval=1)
    (line,) = lines_of(tmp_path)
    assert line['gradient'] == pytest.approx(float(expected[0]), rel=1e-4)
    assert line['task_gradient'] == pytest.approx(float(expected[1]), rel=1e-4)
    assert line['loss'] == pytest.approx(losses['distill.loss_kd'].item(), rel=1e-5)
    assert (line['loss_name'], line['learner'], line['source']) == ('loss_kd', 'student', 'teacher')
    assert {'forward', 'reverse', 'student_entropy', 'teacher_entropy', 'agreement'} < set(line)


@pytest.mark.parametrize('fuse', [False, True])
def test_one_sigmoid_channel_is_two_classes(
    fuse, make_distiller, make_segmentor, make_batch, tmp_path
):
    networks = make_segmentor(auxiliary=False), make_segmentor(depth=34, auxiliary=False)
    for network in networks:
        network['decode_head'].update(num_classes=2, out_channels=1, threshold=0.5)
        network['decode_head']['loss_decode'].update(use_sigmoid=True)
    model = make_distiller(*networks, distill=[KD], fuse_task_loss=fuse)
    model.init_weights()
    train(model, functools.partial(make_batch, num_classes=2), tmp_path, steps=1, interval=1)
    (line,) = lines_of(tmp_path)
    assert 0 < line['student_entropy'] <= math.log(2)
    assert line['loss'] == pytest.approx(2 * line['forward'], rel=0.2)
    assert line['gradient'] > 0
    assert line['task_gradient'] > 0


def test_peers_have_their_own_losses(make_mutual, make_batch, tmp_path):
    model = make_mutual()
    losses, _ = by_hand(copy.deepcopy(model), make_batch)
    train(model, make_batch, tmp_path, steps=1, interval=1)
    student, teacher = lines_of(tmp_path)
    assert (teacher['learner'], teacher['source']) == ('teacher', 'student')
    assert teacher['loss'] == pytest.approx(losses['teacher.distill.loss_balkd'].item(), rel=1e-5)
    # what one learns from the other is the mirror of the reverse
    assert student['forward'] == pytest.approx(teacher['reverse'], rel=1e-4)
    assert student['student_entropy'] == pytest.approx(teacher['teacher_entropy'])
    assert student['task_gradient'] != pytest.approx(teacher['task_gradient'])


def test_features_are_measured_where_they_are_compared(make_distiller, make_batch, tmp_path):
    entry = dict(
        type='ChannelwiseKLLoss', resize='student', student_tap='backbone.layer4',
        teacher_tap='backbone.layer4', projection=dict(in_channels=64, out_channels=64),
    )  # fmt: skip
    model = make_distiller(distill=[entry])
    model.init_weights()
    train(model, make_batch, tmp_path, steps=1, interval=1)
    (line,) = lines_of(tmp_path)
    assert line['gradient'] > 0
    assert line['task_gradient'] > 0
    assert 0 <= line['agreement'] <= 1


def test_a_term_without_weight_and_other_models_leave_nothing(make_distiller, make_batch, tmp_path):
    model = make_distiller(distill=[KD])
    model.init_weights()
    model.distill_terms[0].loss.loss_weight = 0.0
    train(model, make_batch, tmp_path, steps=1, interval=1)
    assert not (tmp_path / 'telemetry.jsonl').exists()
    train(model.student, make_batch, tmp_path, steps=1, interval=1)
    assert not (tmp_path / 'telemetry.jsonl').exists()


def test_resuming_drops_what_will_be_written_again(make_distiller, make_batch, tmp_path):
    model = make_distiller(distill=[KD])
    model.init_weights()
    train(model, make_batch, tmp_path, steps=4, interval=1)
    kept = lines_of(tmp_path)[:2]
    with (tmp_path / 'telemetry.jsonl').open('a') as file:
        file.write('{"step": 5, "lo')  # killed while it wrote
    train(model, make_batch, tmp_path, steps=2, interval=1, start=2)
    found = lines_of(tmp_path)
    assert [line['step'] for line in found] == [1, 2, 3, 4]
    assert found[:2] == kept
    train(model, make_batch, tmp_path, steps=1, interval=1)
    assert [line['step'] for line in lines_of(tmp_path)] == [1]


@pytest.mark.parametrize('slope', [1e-9, 1e-4, 1.0, 100.0, 3e4])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_neither_vanish_nor_overflow_in_half_precision(dtype, slope):
    tap = torch.ones(8, dtype=dtype, requires_grad=True)
    loss = (tap.float() * slope).sum()
    for _ in range(2):  # the graph is left as it is
        found = _gradient(loss, tap)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(found, torch.full_like(found, slope), rtol=4e-3, atol=0.0)
    loss.backward()
    assert torch.allclose(tap.grad, torch.full_like(tap, slope))


def test_a_gradient_of_a_half_precision_loss():
    tap = torch.ones(8, dtype=torch.float16, requires_grad=True)
    assert _gradient(tap.mean(), tap).tolist() == [1 / 8] * 8
    assert _gradient(tap.mean().detach(), tap) is None
    assert _gradient(tap.mean(), torch.ones(8, requires_grad=True)) is None


def test_what_is_not_finite_is_null(make_distiller, make_batch, tmp_path):
    model = make_distiller(distill=[KD])
    model.init_weights()
    with torch.no_grad():  # as a run that diverges
        model.student.decode_head.conv_seg.bias.fill_(torch.nan)
    train(model, make_batch, tmp_path, steps=1, interval=1)
    (text,) = (tmp_path / 'telemetry.jsonl').read_text().splitlines()

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON: {text}')

    line = json.loads(text, parse_constant=refuse)
    assert line['loss'] is line['gradient'] is line['task_gradient'] is None
    assert line['teacher_entropy'] > 0


@pytest.mark.parametrize('interval', [0, -1, 2.5])
def test_refused_interval(interval):
    with pytest.raises(ValueError, match=r'`interval` to be an integer above 0'):
        DistillTelemetryHook(interval)
