"""Softmax over positions: a distribution over each channel's valid pixels."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import balanced_divergence

IMPLS = ('chunked', 'reference')


def truth(student, teacher, target, tau_f=1.0, tau_r=1.0):
    """Mean over the channels of images with a valid pixel, one softmax at a time."""
    losses = []
    for s, t, labels in zip(student, teacher, target, strict=True):
        keep = labels != 255
        for s_map, t_map in zip(s, t, strict=True) if keep.any() else ():
            q, p = (s_map[keep] / tau_f).softmax(0), (t_map[keep] / tau_f).softmax(0)
            forward = tau_f**2 * (p * (p / q).log()).sum()
            q, p = (s_map[keep] / tau_r).softmax(0), (t_map[keep] / tau_r).softmax(0)
            losses.append(forward + tau_r**2 * (q * (q / p).log()).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('low', [(11, 9), (4, 5)])
@pytest.mark.parametrize('taus', [(1.0, 1.0), (4.0, 4.0), (2.0, 1.0)])
def test_value_and_gradient(impl, low, taus, monkeypatch):
    monkeypatch.setattr('balkd_seg.ops._chunked.TILE', 2 * 11 * 9)  # two maps, then one
    student = torch.randn(3, 5, *low, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 5, *low, dtype=torch.float64)
    target = torch.randint(0, 5, (3, 11, 9))
    target[torch.rand(3, 11, 9) < 0.3] = 255
    target[1] = 255  # an image that does not count
    up = [F.interpolate(z, (11, 9), mode='bilinear') for z in (student, teacher)]
    loss = truth(*up, target, *taus)
    (gradient,) = torch.autograd.grad(loss, student)
    result = balanced_divergence(
        student, teacher, target, softmax_axis='positions', impl=impl,
        forward_temperature=taus[0], reverse_temperature=taus[1],
    )  # fmt: skip
    torch.testing.assert_close(result.loss, loss)
    torch.testing.assert_close(torch.autograd.grad(result.loss, student)[0], gradient)
    torch.testing.assert_close(result.valid.double(), (target != 255).double().mean())


@pytest.mark.parametrize('impl', IMPLS)
def test_cwd_as_published(impl):
    """tau^2 / (N C) sum KL over the whole map, nothing ignored."""
    student, teacher = torch.randn(2, 3, 6, 7), torch.randn(2, 3, 6, 7)
    log_q, log_p = (F.log_softmax(z.view(6, -1) / 4, 1) for z in (student, teacher))
    expected = 16 * F.kl_div(log_q, log_p, reduction='sum', log_target=True) / 6
    result = balanced_divergence(
        student, teacher, softmax_axis='positions', reverse_weight=0, forward_temperature=4,
        impl=impl,
    )  # fmt: skip
    torch.testing.assert_close(result.loss, expected)


@pytest.mark.parametrize('impl', IMPLS)
def test_agreement_is_the_share_of_channels_that_peak_at_the_same_pixel(impl):
    student, teacher = torch.randn(2, 8, 3, 3), torch.randn(2, 8, 3, 3)
    expected = (student.flatten(2).argmax(2) == teacher.flatten(2).argmax(2)).float().mean()
    result = balanced_divergence(student, teacher, softmax_axis='positions', impl=impl)
    torch.testing.assert_close(result.agreement, expected)
