"""The cross-entropy beside the divergence, against mmseg's own in float64."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.losses import CrossEntropyLoss, accuracy

from balkd_seg.ops import balanced_divergence

IMPLS = ('chunked', 'reference')


def make(size=(6, 7), low=(3, 4), classes=4, ignored=0.3):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(2, classes, *low, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    target = torch.randint(0, classes, (2, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = 255
    return student.requires_grad_(), teacher, target


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('low', [(3, 4), (6, 7)])
@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('taus', [(1, 2), (3, 4)])
def test_value_gradient_and_accuracy_are_mmsegs(impl, low, avg_non_ignore, align_corners, taus):
    student, teacher, target = make(low=low)
    settings = {
        'forward_temperature': taus[0], 'reverse_temperature': taus[1],
        'align_corners': align_corners,
    }  # fmt: skip
    result = balanced_divergence(
        student, teacher, target, cross_entropy_weight=0.7, avg_non_ignore=avg_non_ignore,
        impl=impl, **settings,
    )  # fmt: skip
    logits = F.interpolate(student, target.shape[1:], None, 'bilinear', align_corners)
    mmseg = CrossEntropyLoss(avg_non_ignore=avg_non_ignore)(logits, target, ignore_index=255)
    torch.testing.assert_close(result.cross_entropy, mmseg.detach(), rtol=1e-6, atol=0)
    percent = accuracy(logits, target, ignore_index=255)
    torch.testing.assert_close(100 * result.accuracy.float(), percent[0])
    divergence = balanced_divergence(student, teacher, target, impl='reference', **settings).loss
    expected = torch.autograd.grad(divergence + 0.7 * mmseg, student)[0]
    # mmseg adds a float32 epsilon to the number of pixels
    torch.testing.assert_close(
        torch.autograd.grad(result.loss, student)[0], expected, rtol=1e-6, atol=1e-10
    )


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_class_weights_are_mmsegs_where_mmseg_has_an_answer(impl, avg_non_ignore):
    """Mmseg 1.2.2 looks up the weight of the ignored label, so that this has to be a class."""
    student, teacher, target = make()
    target[target == 255] = 3
    weight = [0.5, 1.0, 2.0, 3.0]
    result = balanced_divergence(
        student, teacher, target, cross_entropy_weight=1.0, impl=impl, ignore_index=3,
        class_weight=torch.tensor(weight), avg_non_ignore=avg_non_ignore,
    )  # fmt: skip
    logits = F.interpolate(student, target.shape[1:], mode='bilinear')
    loss = CrossEntropyLoss(class_weight=weight, avg_non_ignore=avg_non_ignore)
    mmseg = loss(logits, target, ignore_index=3)
    torch.testing.assert_close(result.cross_entropy, mmseg.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize('impl', IMPLS)
def test_with_class_weights_an_ignored_label_that_is_no_class_has_none(impl):
    student, teacher, target = make()
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    result = balanced_divergence(
        student, teacher, target, cross_entropy_weight=1.0, class_weight=weight, impl=impl
    )
    logits = F.interpolate(student, target.shape[1:], mode='bilinear')
    expected = F.cross_entropy(logits, target, weight, ignore_index=255)
    torch.testing.assert_close(result.cross_entropy, expected.detach())


@pytest.mark.parametrize('impl', IMPLS)
def test_a_label_that_is_no_class_makes_it_nan_and_leaves_the_divergence_alone(impl):
    student, teacher, target = make(ignored=0.0)
    target[0, 0, 0] = 4
    result = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0, impl=impl)
    assert result.loss.isnan()
    assert result.cross_entropy.isnan()
    assert result.forward.isfinite()


@pytest.mark.parametrize('impl', IMPLS)
def test_a_label_whose_class_is_excluded_is_infinitely_wrong(impl):
    student, teacher, target = make(low=(6, 7), ignored=0.0)
    student, teacher = student.detach(), teacher.detach()
    student[:, 1], teacher[:, 1] = -torch.inf, -torch.inf
    student.requires_grad_()
    result = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0, impl=impl)
    assert result.loss == result.cross_entropy == torch.inf
    assert torch.autograd.grad(result.loss, student)[0].isfinite().all()


@pytest.mark.parametrize('impl', IMPLS)
def test_everything_ignored(impl):
    student, teacher, target = make(ignored=2.0)
    result = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0, impl=impl)
    assert [x.item() for x in result if x is not None] == [0] * 8
    assert not torch.autograd.grad(result.loss, student)[0].any()


def test_tiles_add_up(monkeypatch):
    student, teacher, target = make(low=(6, 7))
    whole = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0)
    monkeypatch.setattr('balkd_seg.ops._chunked.TILE', 28)  # one row
    rows = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0)
    torch.testing.assert_close(rows, whole)
    gradients = [torch.autograd.grad(x.loss, student)[0] for x in (rows, whole)]
    torch.testing.assert_close(*gradients)
