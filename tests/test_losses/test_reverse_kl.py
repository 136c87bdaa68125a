"""`ReverseKLLoss` is KL(student||teacher) over the pixels that count."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

import balkd_seg  # noqa: F401


def build(**settings):
    return MODELS.build({'type': 'ReverseKLLoss', **settings})


def test_against_a_formula_of_its_own():
    student = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 12, 16))
    target[:, :4] = 7
    result = build(temperature=3.0, ignore_index=7, loss_weight=0.5)(student, teacher, target)
    up = (F.interpolate(z, (12, 16), mode='bilinear') for z in (student, teacher))
    log_q, log_p = (F.log_softmax(z / 3, 1) for z in up)
    kl = F.kl_div(log_p, log_q, reduction='none', log_target=True).sum(1)
    expected = 0.5 * 9 * kl[target != 7].mean()
    torch.testing.assert_close(result.loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)


def test_the_gradient_is_the_closed_form():
    """q_k [log(q_k / p_k) - KL(q||p)] / T, times T^2."""
    student = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 5, dtype=torch.float64)
    q, p = (student / 2).softmax(1).detach(), (teacher / 2).softmax(1)
    ratio = (q / p).log()
    expected = 4 * q * (ratio - (q * ratio).sum(1, keepdim=True)) / 2 / 6
    build(temperature=2.0)(student, teacher).loss.backward()
    torch.testing.assert_close(student.grad, expected)


def test_a_class_that_the_student_alone_excludes_costs_nothing():
    student, teacher = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3)
    masked = student + torch.tensor([0.0, 0.0, -torch.inf])
    loss = build()(masked, teacher).loss
    torch.testing.assert_close(loss, torch.tensor(1.5).log())
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def test_settings():
    assert build().loss_name == 'loss_rkl'
    small, large = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 6, 8)
    assert build(resize='student')(small, large).loss > 0
    with pytest.raises(ValueError, match=r'`temperature` .* but got 0'):
        build(temperature=0)
    with pytest.raises(ValueError, match=r'`loss_weight` .* but got -1'):
        build(loss_weight=-1)
