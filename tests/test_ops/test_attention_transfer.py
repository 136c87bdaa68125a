"""Attention maps, from norms of vectors of places, one image at a time."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import attention_transfer


def truth(student, teacher, target, size, keep):
    """Mean over images of half the squared distance of maps of norm 1."""
    terms = []
    for s, t, k in zip(student, teacher, keep, strict=True):
        a = (s**2).sum(0)
        b = F.interpolate((t**2).sum(0)[None, None], size, mode='bilinear')[0, 0]
        a, b = a[k] / a[k].norm(), b[k] / b[k].norm()
        terms.append(((a - b) ** 2).sum() / 2)
    return torch.stack(terms).mean()


@pytest.mark.parametrize('teacher_size', [(6, 8), (3, 4), (12, 9)])
def test_value_and_gradient(teacher_size):
    student = torch.randn(3, 5, 6, 8, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 7, *teacher_size, dtype=torch.float64)
    target = torch.zeros(3, 12, 16).long()
    target[:, :4, :6] = 255
    keep = torch.ones(3, 6, 8).bool()
    keep[:, :2, :3] = False
    expected = truth(student, teacher, target, (6, 8), keep)
    result = attention_transfer(student, teacher, target)
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.loss.detach(), 1 - result.cosine)
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)


def test_the_authors_form_is_this_one_over_half_the_places():
    """Which is how their weights translate: their code takes the mean of squares over places."""
    student, teacher = torch.randn(2, 5, 6, 8).double(), torch.randn(2, 5, 6, 8).double()
    maps = [F.normalize(z.pow(2).mean(1).view(2, -1)) for z in (student, teacher)]
    mean = (maps[0] - maps[1]).pow(2).mean()
    torch.testing.assert_close(attention_transfer(student, teacher).loss, mean * 48 / 2)


def test_scale_and_number_of_channels_do_not_matter():
    student = torch.rand(1, 3, 4, 4)
    same = 100 * torch.cat((student, student), 1)
    assert attention_transfer(student, same).loss < 1e-12
    assert attention_transfer(1e-20 * student, same).loss.isfinite()


def test_features_that_are_0_everywhere_teach_nothing():
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 4)
    teacher[1] = 0
    result = attention_transfer(student, teacher)
    torch.testing.assert_close(result.loss, attention_transfer(student[:1], teacher[:1]).loss)
    result.loss.backward()
    assert not student.grad[1].any()
    nothing = torch.zeros(1, 3, 4, 4, requires_grad=True)
    attention_transfer(nothing, teacher[:1]).loss.backward()
    assert not nothing.grad.any()
