"""What `resize` and `ignore_index` mean, against `F.interpolate` done outside."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import balanced_divergence

IMPLS = ('chunked', 'reference')


def make(student_size, teacher_size, size):
    target = torch.randint(0, 4, (2, *size))
    target[torch.rand(2, *size) < 0.4] = 255
    student = torch.randn(2, 4, *student_size, dtype=torch.float64, requires_grad=True)
    return student, torch.randn(2, 4, *teacher_size, dtype=torch.float64), target


def assert_same(a, b, student):
    torch.testing.assert_close(tuple(a), tuple(b))
    gradients = [torch.autograd.grad(x.loss, student)[0] for x in (a, b)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('size', [(6, 10), (48, 80), (13, 27)])
def test_none_reduces_a_larger_label_by_nearest(impl, size):
    student, teacher, target = make((6, 10), (6, 10), size)
    reduced = F.interpolate(target[:, None].double(), (6, 10), mode='nearest')[:, 0].long()
    actual = balanced_divergence(student, teacher, target, resize='none', impl=impl)
    assert_same(actual, balanced_divergence(student, teacher, reduced, impl=impl), student)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('teacher_size', [(3, 4), (6, 10), (12, 33)])
def test_student_brings_the_teacher_to_the_students_size(impl, align_corners, teacher_size):
    student, teacher, target = make((6, 10), teacher_size, (48, 80))
    resized = F.interpolate(teacher, (6, 10), mode='bilinear', align_corners=align_corners)
    kwargs = {'align_corners': align_corners, 'impl': impl}
    actual = balanced_divergence(student, teacher, target, resize='student', **kwargs)
    assert_same(
        actual, balanced_divergence(student, resized, target, resize='none', **kwargs), student
    )


@pytest.mark.parametrize('resize', ['label', 'student', 'none'])
def test_without_a_target_everything_counts(resize):
    student, teacher, _ = make((6, 10), (6, 10), (6, 10))
    actual = balanced_divergence(student, teacher, resize=resize)
    expected = balanced_divergence(student, teacher, torch.zeros(2, 6, 10).long())
    assert_same(actual, expected, student)
    assert actual.valid == 1


@pytest.mark.parametrize(
    ('dtype', 'ignore_index', 'share'),
    [(torch.uint8, 255, 0.75), (torch.int32, -100, 0.75), (torch.int64, 7, 0.75),
     (torch.uint8, -100, 1.0), (torch.int8, 255, 1.0)],
)  # fmt: skip
def test_ignore_index_of_any_dtype(dtype, ignore_index, share):
    """A value that the dtype cannot hold ignores nothing; it must not wrap around to 156."""
    target = torch.full((1, 2, 2), 156 if dtype == torch.uint8 else -1).to(dtype)
    if share < 1:
        target[0, 0, 0] = ignore_index
    logits = torch.randn(1, 3, 2, 2)
    assert balanced_divergence(logits, logits, target, ignore_index=ignore_index).valid == share


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('resize', ['student', 'none'])
@pytest.mark.parametrize(('dtype', 'ignore_index'), [(torch.int8, 255), (torch.uint8, -1)])
def test_a_label_that_cannot_be_ignored_is_reduced_all_the_same(impl, resize, dtype, ignore_index):
    """What the dtype cannot hold ignores nothing; the comparison stays at the logits' size."""
    student, teacher, _ = make((6, 10), (6, 10), (12, 20))
    target = torch.full((2, 12, 20), -1).to(dtype)
    settings = dict(ignore_index=ignore_index, resize=resize, impl=impl)
    actual = balanced_divergence(student, teacher, target, **settings)
    assert_same(actual, balanced_divergence(student, teacher, impl=impl), student)
