"""`BalancedLoss`: any divergence plus itself with the roles exchanged."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

import balkd_seg  # noqa: F401

KD, CWD = dict(type='PixelwiseKLLoss'), dict(type='ChannelwiseKLLoss', loss_weight=1.0)


def build(loss, **settings):
    return MODELS.build({'type': 'BalancedLoss', 'loss': loss, **settings})


def make_inputs(size=(6, 4), dtype=torch.float64):
    student = torch.randn(2, 5, 3, 4, dtype=dtype, requires_grad=True)
    teacher, target = torch.randn(2, 5, *size, dtype=dtype), torch.randint(0, 5, (2, 12, 16))
    target[:, :4] = 255
    return student, teacher, target


def value_and_grad(loss, inputs):
    result = loss(*inputs)
    return result.loss.detach(), torch.autograd.grad(result.loss, inputs[0])[0]


@pytest.mark.parametrize('resize', ['label', 'student', 'none'])
@pytest.mark.parametrize(
    ('wrapped', 'axis', 'temperature'), [(KD, 'classes', 2.0), (CWD, 'positions', 4.0)]
)
@pytest.mark.parametrize('weights', [(1.0, 1.0), (0.5, 3.0), (0.0, 1.0)])
def test_is_the_balanced_divergence_where_that_has_the_same_form(
    resize, wrapped, axis, temperature, weights
):
    inputs = make_inputs((3, 4) if resize == 'none' else (6, 4))
    weights = dict(zip(('forward_weight', 'reverse_weight'), weights, strict=True))
    actual = build({**wrapped, 'temperature': temperature, 'resize': resize}, **weights)
    expected = MODELS.build(
        dict(
            type='BalancedDivergenceLoss', softmax_axis=axis, resize=resize, **weights,
            forward_temperature=temperature, reverse_temperature=temperature,
        )
    )  # fmt: skip
    torch.testing.assert_close(value_and_grad(actual, inputs), value_and_grad(expected, inputs))


@pytest.mark.parametrize('wrapped', [KD, CWD])
def test_weights_1_and_0_are_the_wrapped_loss_exactly(wrapped):
    inputs = make_inputs(dtype=torch.float32)
    pairs = [
        value_and_grad(x, inputs)
        for x in (build(wrapped, reverse_weight=0.0), MODELS.build(wrapped))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
    result = build(wrapped, reverse_weight=0.0)(*inputs)
    assert result.reverse is None
    assert torch.equal(result.forward, result.loss.detach())


def test_against_a_formula_of_its_own():
    student, teacher, target = make_inputs((3, 4))
    kd = dict(KD, temperature=2.0, loss_weight=0.25)
    up = [F.interpolate(z, (12, 16), mode='bilinear')[..., 4:, :] for z in (student, teacher)]
    q, p = ((z / 2).softmax(1) for z in up)
    forward, reverse = (p * (p / q).log()).sum(1).mean(), (q * (q / p).log()).sum(1).mean()
    expected = 2 * forward + 3 * reverse  # the weight 0.25 times the squared temperature
    result = build(kd, forward_weight=2.0, reverse_weight=3.0)(student, teacher, target)
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result[1:3], (forward.detach(), reverse.detach()))
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(result.valid, torch.tensor(8 / 12))
    assert result.agreement.ndim == 0


@pytest.mark.parametrize('resize', ['label', 'student', 'none'])
@pytest.mark.parametrize('wrapped', [KD, CWD, dict(type='DecoupledKLLoss')])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_near_the_single_of_the_same_logits(dtype, wrapped, resize):
    student, teacher, target = make_inputs((3, 4) if resize == 'none' else (6, 4), dtype)
    loss = build({**wrapped, 'resize': resize})
    value, gradient = value_and_grad(loss, (student, teacher, target))
    student = student.detach().float().requires_grad_()
    expected, by_hand = value_and_grad(loss, (student, teacher.float(), target))
    torch.testing.assert_close(value.float(), expected, rtol=1e-5, atol=1e-6)
    assert gradient.dtype == dtype
    scale = by_hand.abs().max()
    torch.testing.assert_close(gradient.float() / scale, by_hand / scale, rtol=1e-2, atol=1e-2)


def test_the_teacher_gets_no_gradient():
    student, teacher, target = make_inputs()
    teacher.requires_grad_()
    build(KD)(student, teacher, target).loss.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_nothing_counts_and_nothing_differs():
    student, teacher, target = make_inputs((3, 4))
    result = build(KD)(student, teacher, torch.full_like(target, 255))
    (gradient,) = torch.autograd.grad(result.loss, student)
    assert result.loss == 0
    assert not gradient.any()
    assert build(CWD)(student, student.detach(), target).loss == 0


def test_a_schedule_reaches_the_wrapped_loss():
    loss = build(dict(KD, loss_weight=0.5))
    loss.temperature, loss.loss_weight = 3.0, 2.0
    assert (loss.loss.temperature, loss.loss_weight, loss.temperature) == (3.0, 2.0, 3.0)
    assert (loss.loss_name, loss.resize, loss.ignore_index) == ('loss_balanced', 'label', 255)
    assert loss.align_corners is False
    assert loss.is_active
    loss.loss_weight = 0.0
    assert not loss.is_active


@pytest.mark.parametrize(
    ('loss', 'settings', 'message'),
    [
        (KD, {'forward_weight': -1.0}, '`forward_weight` .* at least 0, but got -1.0'),
        (KD, {'reverse_weight': float('nan')}, '`reverse_weight` .* but got nan'),
        (KD, {'forward_weight': 0, 'reverse_weight': 0}, 'but both are 0; remove the loss'),
        (KD, {'loss_name': 'x'}, "`loss_name` to start with 'loss_', but got 'x'"),
        (dict(type='BalancedLoss', loss=KD), {}, 'a loss with a direction .* got BalancedLoss'),
        (dict(type='CrossEntropyLoss'), {}, 'a loss with a direction .* got CrossEntropyLoss'),
    ],
)
def test_bad_settings_are_refused_when_built(loss, settings, message):
    with pytest.raises(ValueError, match=message):
        build(loss, **settings)
