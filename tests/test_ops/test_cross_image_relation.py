"""CIRKD's relations, one pixel and one other image at a time."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import cross_image_relation


def truth(student, teacher, keep, temperature=0.1, pool=1):
    if pool > 1:
        student, teacher = (F.avg_pool2d(z, pool, ceil_mode=True) for z in (student, teacher))
    total, count = 0.0, 0
    for n in range(len(student)):
        for m in range(len(student)):
            if not keep[m].any():
                continue
            for y, x in keep[n].nonzero().tolist():
                distributions = []
                for z in (student, teacher):
                    others = z[m][:, keep[m]]
                    own = z[n][:, y, x, None].expand_as(others)
                    cosines = torch.cosine_similarity(own, others, 0)
                    distributions.append((cosines / temperature).softmax(0))
                q, p = distributions
                total = total + (p * (p / q).log()).sum()
                count += 1
    return total / count


def make(teacher_channels=7):
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(3, 5, 4, 6, generator=generator, dtype=torch.float64)
    teacher = torch.randn(3, teacher_channels, 4, 6, generator=generator, dtype=torch.float64)
    target = torch.zeros(3, 8, 12).long()
    target[0, :4, :8] = 255
    target[2] = 255
    return student.requires_grad_(), teacher, target


@pytest.mark.parametrize('temperature', [0.1, 1.0])
@pytest.mark.parametrize('pool', [1, 2])
def test_value_and_gradient(temperature, pool):
    student, teacher, target = make()
    keep = F.max_pool2d((target != 255)[:, None].double(), 2 * pool)[:, 0].bool()
    expected = truth(student, teacher, keep, temperature, pool)
    result = cross_image_relation(student, teacher, target, temperature=temperature, pool=pool)
    torch.testing.assert_close(result.loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)


def test_the_authors_form_where_nothing_is_ignored():
    """Sum over pairs of images of a batchmean, over the number of pairs."""
    student, teacher, _ = make()
    s, t = (F.normalize(z, dim=1).flatten(2) for z in (student, teacher))
    total = 0
    for n in range(3):
        for m in range(3):
            q, p = ((z[n].T @ z[m] / 0.1).log_softmax(1) for z in (s, t))
            total = total + F.kl_div(q, p, reduction='batchmean', log_target=True)
    torch.testing.assert_close(cross_image_relation(student, teacher).loss, total / 9)


def test_the_teacher_is_resized_to_the_student():
    student, _, target = make()
    large = torch.randn(3, 7, 8, 12, dtype=torch.float64)
    small = F.interpolate(large, (4, 6), mode='bilinear')
    pair = [cross_image_relation(student, z, target).loss for z in (large, small)]
    torch.testing.assert_close(*pair)


def test_the_teacher_gets_a_gradient_on_request():
    student, teacher, target = make()
    keep = F.max_pool2d((target != 255)[:, None].double(), 2)[:, 0].bool()
    student, teacher = student.detach(), teacher.requires_grad_()
    assert not cross_image_relation(student, teacher, target).loss.requires_grad
    losses = (
        cross_image_relation(student, teacher, target, teacher_gradient=True).loss,
        truth(student, teacher, keep),
    )
    torch.testing.assert_close(*[torch.autograd.grad(x, teacher)[0] for x in losses])


def test_one_image_s_similarities_exist_at_a_time():
    """What is kept for the gradient does not hold (A, N A) of any image."""
    student, teacher, _ = make()
    sizes = []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        cross_image_relation(student, teacher)
    assert max(sizes) < 24 * 3 * 24


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(temperature=0), '`temperature` .* but got 0'),
        (dict(pool=0), '`pool` to be an integer of at least 1, but got 0'),
        (dict(pool=1.5), '`pool` .* but got 1.5'),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        cross_image_relation(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), **settings)
