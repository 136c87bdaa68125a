"""Decoupled KL, pixel by pixel from probabilities, and its sum as plain KL."""

import pytest
import torch

from balkd_seg.ops import balanced_divergence, decoupled_kl


def truth(alpha=1.0, beta=0.5, temperature=1.0, swap=False):
    """One pixel at a time: the labelled class against the rest, then the rest among themselves."""

    def mean(student, teacher, labels):
        total = 0.0
        for s, t, y in zip(student, teacher, labels, strict=True):
            q, p = (s / temperature).softmax(0), (t / temperature).softmax(0)
            if swap:
                q, p = p, q
            rest_p, rest_q = 1 - p[y], 1 - q[y]
            target = p[y] * (p[y] / q[y]).log() + rest_p * (rest_p / rest_q).log()
            others = [k for k in range(len(s)) if k != y]
            p_hat, q_hat = p[others] / rest_p, q[others] / rest_q
            total = total + alpha * target + beta * (p_hat * (p_hat / q_hat).log()).sum()
        return temperature**2 * total / len(labels)

    return mean


@pytest.mark.parametrize('align_corners', [False, True])
def test_value_and_gradient_at_every_size(compare, case, align_corners):
    compare(decoupled_kl, truth(), case, align_corners)


@pytest.mark.parametrize('weights', [(1.0, 8.0), (0.0, 1.0), (2.0, 0.0)])
@pytest.mark.parametrize('temperature', [0.5, 4.0])
def test_value_and_gradient_at_every_setting(compare, weights, temperature):
    settings = dict(alpha=weights[0], beta=weights[1], temperature=temperature)
    result = compare(decoupled_kl, truth(**settings), 'odd-ratios', **settings)
    parts = weights[0] * result.target_class + weights[1] * result.other_classes
    torch.testing.assert_close(result.loss.detach(), parts)


def test_the_teacher_gets_the_gradient_of_the_exchanged_roles(compare):
    def exchanged(student, teacher, target, **settings):
        return decoupled_kl(teacher, student, target, teacher_gradient=True, **settings)

    for case in ('equal', 'odd-ratios', 'as-they-are'):
        compare(exchanged, truth(swap=True), case)


def test_tiles_add_up(compare, monkeypatch):
    for tile in (1, 300, 10**6):
        monkeypatch.setattr('balkd_seg.ops._chunked.TILE', tile)
        compare(decoupled_kl, truth(), 'odd-ratios')


def test_kl_is_its_parts_where_the_teacher_is_equally_sure():
    """KL = TCKD + (1 - p_y) NCKD; with the same p_y everywhere that is beta."""
    rest = torch.rand(30, 4).double()
    teacher = torch.cat((torch.full((30, 1), 0.7).double(), 0.3 * rest / rest.sum(1, True)), 1)
    student = torch.randn(30, 5).double()
    actual = decoupled_kl(student, teacher.log(), torch.zeros(30).long(), beta=0.3).loss
    torch.testing.assert_close(actual, balanced_divergence(student, teacher.log()).forward)


def test_confident_networks_keep_their_other_classes():
    """1 - p_y is 0 in fp32 here, but what p says of the others is not lost."""
    teacher = torch.tensor([[60.0, 2.0, 0.0]])
    student = torch.tensor([[60.0, 0.0, 2.0]], requires_grad=True)
    result = decoupled_kl(student, teacher, torch.tensor([0]))
    p = torch.tensor([2.0, 0.0]).softmax(0)
    torch.testing.assert_close(result.other_classes, (p * (p / p.flip(0)).log()).sum())
    assert torch.autograd.grad(result.loss, student)[0][0, 1:].abs().min() > 0.1


def test_two_classes_have_no_others():
    student, teacher = torch.randn(8, 2), torch.randn(8, 2)
    result = decoupled_kl(student, teacher, torch.randint(0, 2, (8,)), beta=3.0)
    assert result.other_classes == 0
    torch.testing.assert_close(result.loss, balanced_divergence(student, teacher).forward)


def test_a_label_that_is_no_class_is_noticed():
    student = torch.zeros(2, 3, requires_grad=True)
    assert decoupled_kl(student, torch.ones(2, 3), torch.tensor([0, 3])).loss.isnan()
    assert decoupled_kl(student, torch.ones(2, 3), torch.tensor([0, 255])).loss == 0


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(alpha=-1.0), '`alpha` to be finite and at least 0, but got -1.0'),
        (dict(beta=float('inf')), '`beta` .* but got inf'),
        (dict(alpha=0, beta=0), '`alpha` or `beta` to be larger than 0, but both are 0'),
        (dict(temperature=0), '`temperature` .* but got 0'),
        (dict(target=None), 'a `target` to tell the labelled class .* use balanced_divergence'),
    ],
)
def test_bad_settings_are_refused(settings, message):
    inputs = dict(dict(target=torch.zeros(1).long()), **settings)
    with pytest.raises(ValueError, match=message):
        decoupled_kl(torch.zeros(1, 2), torch.zeros(1, 2), **inputs)
