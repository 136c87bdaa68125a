"""The weighting by entropy (BD-KD) against sample-by-sample formulas of its own, in float64."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import balanced_divergence

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
IMPLS = ('chunked', 'fused', 'reference')
# (student, teacher, label)
SIZES = {
    'full': ((4, 6), (4, 6), (4, 6)),
    'low': ((1, 2), (1, 2), (4, 8)),
    'two-sizes': ((1, 2), (2, 3), (4, 8)),
}


def make(sizes='full', num=3, classes=4):
    """Return float64 logits, student first, and labels; teachers from surest to least sure."""
    generator = torch.Generator().manual_seed(0)
    student_size, teacher_size, size = SIZES[sizes]

    def randn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    sure = torch.tensor([3.0, 1.0, 0.3], dtype=torch.float64)[:num].view(-1, 1, 1, 1)
    target = torch.randint(0, classes, (num, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.3] = 255
    return randn(num, classes, *student_size), sure * randn(num, classes, *teacher_size), target


def truth(student, teacher, target, granularity, delta=2.0, taus=(1.0, 1.0, 1.0)):
    """Loop over images and pixels; return the loss and the mean entropies."""
    tau_f, tau_r, tau_h = taus
    s, t = (F.interpolate(z, target.shape[1:], mode='bilinear') for z in (student, teacher))
    total, count, entropies = 0.0, int((target != 255).sum()), torch.zeros(2, dtype=torch.float64)
    for n in range(len(target)):
        keep = target[n] != 255
        s_n, t_n = s[n][:, keep].T, t[n][:, keep].T
        with torch.no_grad():
            h_s, h_t = (
                torch.distributions.Categorical(logits=z / tau_h, validate_args=False).entropy()
                for z in (s_n, t_n)
            )
        entropies += torch.stack([h_s.sum(), h_t.sum()]) / count
        if granularity == 'image':
            h_s, h_t = h_s.mean().expand_as(h_s), h_t.mean().expand_as(h_t)
        for i in range(len(s_n)):
            w_f = delta if h_t[i] > h_s[i] else 1.0
            w_r = delta if h_s[i] > h_t[i] else 1.0
            p, q = (t_n[i] / tau_f).softmax(0), (s_n[i] / tau_f).softmax(0)
            total = total + w_f * tau_f**2 * (p * (p / q).log()).sum() / count
            p, q = (t_n[i] / tau_r).softmax(0), (s_n[i] / tau_r).softmax(0)
            total = total + w_r * tau_r**2 * (q * (q / p).log()).sum() / count
    return total, entropies


def run(student, teacher, target, impl, granularity, taus=(1.0, 1.0, 1.0), **settings):
    """Return the result and both gradients; the fused kernels get fp32."""
    dtype = torch.float32 if impl == 'fused' else torch.float64
    s, t = (z.to(DEVICE, dtype).requires_grad_() for z in (student, teacher))
    result = balanced_divergence(
        s, t, target.to(DEVICE), forward_temperature=taus[0], reverse_temperature=taus[1],
        entropy_temperature=taus[2], entropy_weighting=granularity, impl=impl,
        teacher_gradient=True, **settings,
    )  # fmt: skip
    return result, torch.autograd.grad(result.loss, (s, t))


def close(actual, expected, impl):
    tolerance = 2e-5 if impl == 'fused' else 1e-10
    torch.testing.assert_close(actual.double().cpu(), expected, rtol=tolerance, atol=tolerance)


TAUS = [(1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 2.0, 2.0), (3.0, 1.5, 2.0)]


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
@pytest.mark.parametrize(
    ('sizes', 'taus'), [*(('full', x) for x in TAUS), ('low', TAUS[2]), ('two-sizes', TAUS[3])]
)
def test_value_and_both_gradients(impl, sizes, granularity, taus):
    student, teacher, target = make(sizes)
    result, gradients = run(student, teacher, target, impl, granularity, taus)
    s, t = (z.clone().requires_grad_() for z in (student, teacher))
    loss, entropies = truth(s, t, target, granularity, taus=taus)
    close(result.loss.detach(), loss.detach(), impl)
    close(torch.stack([result.student_entropy, result.teacher_entropy]), entropies, impl)
    for actual, expected in zip(gradients, torch.autograd.grad(loss, (s, t)), strict=True):
        close(actual, expected, impl)


def test_the_test_sees_both_directions():
    """Some samples have to fall on either side, or nothing was tested."""
    student, teacher, target = make()
    for granularity in ('image', 'pixel'):
        plain, low, high = (
            truth(student, teacher, target, granularity, delta)[0] for delta in (1.0, 0.5, 2.0)
        )
        only_forward = 2 * balanced_divergence(student, teacher, target, reverse_weight=0.0).loss
        assert low < plain < high
        assert not torch.isclose(high - plain, only_forward / 2)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_delta_1_is_exactly_the_unweighted_loss(impl, granularity):
    inputs = make()
    plain, plain_gradients = run(*inputs, impl, 'none')
    result, gradients = run(*inputs, impl, granularity, delta=1.0)
    assert torch.equal(result.loss, plain.loss)
    assert all(torch.equal(a, b) for a, b in zip(gradients, plain_gradients, strict=True))
    assert plain.student_entropy is None


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_networks_that_are_equally_sure_are_not_weighted(impl, granularity):
    """A permutation of classes has the same entropy, up to the order of its sum; two have none."""
    student = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 6).double()
    target = torch.zeros(1, 4, 6, dtype=torch.long)
    inputs = (student, student.flip(1), target)
    plain, result = run(*inputs, impl, 'none')[0], run(*inputs, impl, granularity, delta=7.0)[0]
    assert torch.equal(result.loss, plain.loss)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_exchanging_networks_and_terms_changes_nothing(impl, granularity):
    student, teacher, target = make('full')
    settings = {'forward_weight': 0.3, 'reverse_weight': 0.9}
    one, (to_student, to_teacher) = run(student, teacher, target, impl, granularity, **settings)
    settings = {'forward_weight': 0.9, 'reverse_weight': 0.3}
    other, exchanged = run(teacher, student, target, impl, granularity, **settings)
    torch.testing.assert_close(one.loss, other.loss)
    torch.testing.assert_close(exchanged, (to_teacher, to_student))


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_rows_are_samples(impl, granularity):
    student, teacher, _ = make()
    student, teacher = student[..., 0, 0], teacher[..., 0, 0]
    target = torch.tensor([0, 255, 1])
    result, gradients = run(student, teacher, target, impl, granularity)
    images = (z[:, :, None, None] for z in (student, teacher))
    expected, _ = truth(*images, target[:, None, None], 'pixel')
    close(result.loss.detach(), expected, impl)
    assert gradients[0][1].abs().max() == 0


@pytest.mark.parametrize('impl', ['chunked', 'reference'])
def test_images_weigh_channel_maps_too(impl):
    student, teacher, target = make()
    target.fill_(0)  # every unit is a whole channel map
    settings = {'softmax_axis': 'positions', 'delta': 4.0}
    result, gradients = run(student, teacher, target, impl, 'image', **settings)
    s, t = (z.flatten(2).clone().requires_grad_() for z in (student, teacher))
    log_q, log_p = s.log_softmax(2), t.log_softmax(2)
    h_s, h_t = (-(z.exp() * z).sum(2).mean(1) for z in (log_q, log_p))
    w_f, w_r = torch.where(h_t > h_s, 4.0, 1.0), torch.where(h_s > h_t, 4.0, 1.0)
    forward = (log_p.exp() * (log_p - log_q)).sum(2).mean(1)
    reverse = (log_q.exp() * (log_q - log_p)).sum(2).mean(1)
    loss = (w_f * forward + w_r * reverse).mean()
    assert (w_f > 1).any()
    assert (w_r > 1).any()
    torch.testing.assert_close(result.loss, loss)
    expected = torch.autograd.grad(loss, s)[0].view_as(student)
    torch.testing.assert_close(gradients[0], expected)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_the_cross_entropy_is_left_alone(impl, granularity):
    inputs = make('full')
    alone, _ = run(*inputs, impl, granularity)
    joint, _ = run(*inputs, impl, granularity, cross_entropy_weight=0.5)
    torch.testing.assert_close(joint.divergence, alone.loss.detach())
    torch.testing.assert_close(joint.loss.detach(), alone.loss + 0.5 * joint.cross_entropy)
    plain = F.interpolate(inputs[0], inputs[2].shape[1:], mode='bilinear')
    task = F.cross_entropy(plain, inputs[2], ignore_index=255, reduction='sum')
    close(joint.cross_entropy, task / inputs[2].numel(), impl)


@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_tiles_do_not_matter(granularity, monkeypatch):
    student, teacher, target = make('low')
    expected, _ = truth(student, teacher, target, granularity)
    for tile in (1, 200, 10**6):
        monkeypatch.setattr('balkd_seg.ops._chunked.TILE', tile)
        close(run(student, teacher, target, 'chunked', granularity)[0].loss, expected, 'chunked')


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('granularity', ['image', 'pixel'])
def test_everything_ignored_gives_0(impl, granularity):
    student, teacher, target = make()
    result, gradients = run(student, teacher, target.fill_(255), impl, granularity)
    assert result.loss == result.student_entropy == result.teacher_entropy == 0
    assert all(g.abs().max() == 0 for g in gradients)


def test_fp16_computes_the_weighting_again_in_backward(triton):
    student, teacher, target = (z.to(DEVICE) for z in make())
    student, teacher = (z.half() for z in (student, teacher))
    for granularity in ('image', 'pixel'):
        grads = []
        for impl in ('fused', 'reference'):
            s = student.clone().requires_grad_()
            settings = {'entropy_weighting': granularity, 'delta': 3.0, 'impl': impl}
            (1024 * balanced_divergence(s, teacher, target, **settings).loss).backward()
            grads.append(s.grad)
        torch.testing.assert_close(*grads, rtol=2e-3, atol=1e-3)
