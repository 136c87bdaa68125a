"""DIST against correlation coefficients from `torch.corrcoef`, one pair of vectors at a time."""

import math

import pytest
import torch

from balkd_seg.ops import class_correlation


def truth(inter_weight=1.0, intra_weight=1.0, temperature=1.0):
    def correlation(a, b):
        return torch.corrcoef(torch.stack((a, b)))[0, 1]

    def mean(student, teacher, _):
        q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
        rows = [1 - correlation(a, b) for a, b in zip(q, p, strict=True)]
        columns = [1 - correlation(a, b) for a, b in zip(q.T, p.T, strict=True)]
        inter, intra = (torch.stack(x).mean() for x in (rows, columns))
        return temperature**2 * (inter_weight * inter + intra_weight * intra)

    return mean


@pytest.mark.parametrize('align_corners', [False, True])
def test_value_and_gradient_at_every_size(compare, case, align_corners):
    compare(class_correlation, truth(), case, align_corners)


@pytest.mark.parametrize('weights', [(2.0, 1.0), (1.0, 0.0), (0.0, 3.0)])
@pytest.mark.parametrize('temperature', [0.5, 4.0])
def test_value_and_gradient_at_every_setting(compare, weights, temperature):
    settings = dict(inter_weight=weights[0], intra_weight=weights[1], temperature=temperature)
    result = compare(class_correlation, truth(**settings), 'odd-ratios', **settings)
    parts = weights[0] * result.inter + weights[1] * result.intra
    torch.testing.assert_close(result.loss.detach(), parts)


def test_rows_of_logits_are_pixels(compare):
    student, teacher = torch.randn(30, 5).double(), torch.randn(30, 5).double()
    loss = class_correlation(student, teacher, torch.zeros(30).long()).loss
    torch.testing.assert_close(loss, truth()(student, teacher, None))


def test_a_linear_student_is_a_perfect_one():
    """Which is the point of the method: sharper or flatter probabilities do not matter."""
    teacher = torch.rand(20, 5).double()
    teacher = teacher / teacher.sum(1, keepdim=True)
    assert class_correlation((0.3 * teacher + 0.14).log(), teacher.log()).loss.abs() < 1e-12
    worst = class_correlation((0.5 - 0.5 * teacher).log(), teacher.log())
    assert math.isclose(worst.inter.item(), 2, rel_tol=1e-9)


def test_what_does_not_vary_is_left_out():
    """A pixel without an opinion, a class that the batch does not know: no 0/0."""
    student, teacher = torch.randn(8, 4), torch.randn(8, 4)
    student[0], teacher[:, 3] = 3.7, -torch.inf
    student.requires_grad_()
    result = class_correlation(student, teacher)
    assert result.loss.isfinite()
    (gradient,) = torch.autograd.grad(result.loss, student)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 10
    flat = torch.zeros(8, 4, requires_grad=True)
    nothing = class_correlation(flat, teacher)
    nothing.loss.backward()
    assert nothing.loss == 0
    assert not flat.grad.any()


def test_one_hot_networks_have_a_gradient_without_nan():
    student = (1e4 * torch.eye(4)).requires_grad_()
    result = class_correlation(student, 1e4 * torch.eye(4).flip(0))
    result.loss.backward()
    assert result.loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(inter_weight=-1.0), '`inter_weight` to be finite and at least 0, but got -1.0'),
        (dict(inter_weight=0, intra_weight=0), '`inter_weight` or `intra_weight` .* both are 0'),
        (dict(temperature=0), '`temperature` .* but got 0'),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        class_correlation(torch.zeros(1, 2), torch.zeros(1, 2), **settings)
