"""The generalised Jensen-Shannon divergence, from probabilities and as entropies."""

import math

import pytest
import torch

from balkd_seg.ops import balanced_divergence, jensen_shannon


def truth(beta=0.5, temperature=1.0):
    """H(m) - beta H(p) - (1 - beta) H(q), which is the same divergence."""

    def entropy(x):
        return -(x * x.log()).sum(1)

    def mean(student, teacher, _):
        q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
        m = beta * p + (1 - beta) * q
        gap = entropy(m) - beta * entropy(p) - (1 - beta) * entropy(q)
        return temperature**2 * gap.mean()

    return mean


@pytest.mark.parametrize('align_corners', [False, True])
def test_value_and_gradient_at_every_size(compare, case, align_corners):
    compare(jensen_shannon, truth(), case, align_corners)


@pytest.mark.parametrize('beta', [0.1, 0.5, 0.9])
@pytest.mark.parametrize('temperature', [0.5, 1.0, 4.0])
def test_value_and_gradient_at_every_setting(compare, beta, temperature):
    settings = dict(beta=beta, temperature=temperature)
    result = compare(jensen_shannon, truth(**settings), 'odd-ratios', **settings)
    parts = beta * result.teacher_part + (1 - beta) * result.student_part
    torch.testing.assert_close(result.loss.detach(), parts)


def test_tiles_add_up(compare, monkeypatch):
    for tile in (1, 300, 10**6):
        monkeypatch.setattr('balkd_seg.ops._chunked.TILE', tile)
        compare(jensen_shannon, truth(), 'odd-ratios')


def test_its_limits_are_forward_and_reverse_kl():
    student, teacher = torch.randn(40, 5).double(), torch.randn(40, 5).double()
    kl = balanced_divergence(student, teacher)
    for beta, expected in ((1e-6, kl.forward), (1 - 1e-6, kl.reverse)):
        loss = jensen_shannon(student, teacher, beta=beta).loss
        torch.testing.assert_close(loss / min(beta, 1 - beta), expected, rtol=1e-4, atol=0)


def test_near_each_other_it_is_a_quarter_of_kl():
    """Which the card says of its weight."""
    student, teacher = torch.randn(40, 5).double(), torch.randn(40, 5).double()
    student = teacher + 1e-4 * student
    loss = jensen_shannon(student, teacher).loss
    torch.testing.assert_close(
        loss, balanced_divergence(student, teacher).forward / 4, rtol=1e-3, atol=0
    )


def test_it_is_bounded_by_log_2():
    far = torch.tensor([[1e4, 0.0], [0.0, -torch.inf]], requires_grad=True)
    loss = jensen_shannon(far, far.detach().flip(1)).loss
    assert math.isclose(loss.item(), math.log(2), rel_tol=1e-6)
    assert torch.autograd.grad(loss, far)[0].isfinite().all()


@pytest.mark.parametrize('beta', [0, 1, -0.1, float('nan')])
def test_beta_is_checked(beta):
    with pytest.raises(ValueError, match=r'`beta` to be larger than 0 and less than 1, but got'):
        jensen_shannon(torch.zeros(1, 2), torch.zeros(1, 2), beta=beta)


def test_temperature_is_checked():
    with pytest.raises(ValueError, match=r'`temperature` .* but got 0'):
        jensen_shannon(torch.zeros(1, 2), torch.zeros(1, 2), temperature=0)
