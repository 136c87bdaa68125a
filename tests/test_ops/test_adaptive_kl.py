"""Adaptive KL, pixel by pixel, with the head found in a loop."""

import pytest
import torch

from balkd_seg.ops import adaptive_kl, balanced_divergence


def head_share(q, p, mass):
    order = sorted(range(len(p)), key=lambda k: -p[k].item())
    head, tail, so_far = 0.0, 0.0, 0.0
    for rank, k in enumerate(order):
        so_far += p[k].item()
        gap = abs(p[k].item() - q[k].item())
        if rank == 0 or so_far <= mass:
            head += gap
        else:
            tail += gap
    return head / (head + tail)


def truth(head_mass=0.5, temperature=1.0):
    def mean(student, teacher, _):
        total = 0.0
        for s, t in zip(student, teacher, strict=True):
            q, p = (s / temperature).softmax(0), (t / temperature).softmax(0)
            share = head_share(q.detach(), p, head_mass)
            forward, reverse = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
            total = total + share * forward + (1 - share) * reverse
        return temperature**2 * total / len(student)

    return mean


@pytest.mark.parametrize('align_corners', [False, True])
def test_value_and_gradient_at_every_size(compare, case, align_corners):
    compare(adaptive_kl, truth(), case, align_corners)


@pytest.mark.parametrize('head_mass', [0.2, 0.5, 0.95])
@pytest.mark.parametrize('temperature', [0.5, 4.0])
def test_value_and_gradient_at_every_setting(compare, head_mass, temperature):
    settings = dict(head_mass=head_mass, temperature=temperature)
    compare(adaptive_kl, truth(**settings), 'odd-ratios', **settings)


def test_tiles_add_up(compare, monkeypatch):
    for tile in (1, 300, 10**6):
        monkeypatch.setattr('balkd_seg.ops._chunked.TILE', tile)
        compare(adaptive_kl, truth(), 'odd-ratios')


def test_it_lies_between_forward_and_reverse():
    student, teacher = torch.randn(50, 7).double(), torch.randn(50, 7).double()
    result, kl = adaptive_kl(student, teacher), balanced_divergence(student, teacher)
    torch.testing.assert_close(result[1:3], kl[1:3])
    assert 0 < result.head_share < 1


def test_networks_that_differ_in_the_tail_alone_learn_by_reverse_kl():
    teacher = torch.tensor([[0.6, 0.3, 0.1]]).double()
    student = torch.tensor([[0.6, 0.1, 0.3]]).double()
    result = adaptive_kl(student.log(), teacher.log())
    assert result.head_share < 1e-12
    torch.testing.assert_close(result.loss, result.reverse)


def test_identical_networks_are_no_0_divided_by_0():
    logits = torch.randn(4, 5, requires_grad=True)
    result = adaptive_kl(logits, logits.detach())
    result.loss.backward()
    assert (result.loss, result.head_share) == (0, 0.5)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(head_mass=1), '`head_mass` to be larger than 0 and less than 1, but got 1'),
        (dict(temperature=-1), '`temperature` .* but got -1'),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        adaptive_kl(torch.zeros(1, 2), torch.zeros(1, 2), **settings)
