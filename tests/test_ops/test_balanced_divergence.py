"""The balanced divergence against formulas of its own, in float64 and through autograd.

`truth` is spelled from probabilities with ordinary softmax and log, shares nothing with the package
and is differentiated by autograd.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import balanced_divergence

IMPLS = ('chunked', 'reference')
# (student size, teacher size, label size)
SIZES = {
    'equal': ((9, 8), (9, 8), (9, 8)),
    'ratio-8': ((3, 5), (3, 5), (24, 40)),
    'odd-ratios': ((5, 7), (3, 4), (33, 47)),
    'student-full': ((13, 11), (4, 3), (13, 11)),
    'teacher-full': ((4, 3), (13, 11), (13, 11)),
    'downsampled': ((21, 17), (12, 30), (10, 9)),
    'one-pixel': ((1, 1), (2, 1), (5, 6)),
}


def truth(student, teacher, target, terms=(1.0, 1.0, 1.0, 1.0), *, align_corners=False):
    """Mean over valid pixels from probabilities; (N, C, h, w) logits, (N, H, W) labels."""
    weight_f, weight_r, tau_f, tau_r = terms
    size = target.shape[1:]
    s, t = (F.interpolate(z, size, None, 'bilinear', align_corners) for z in (student, teacher))
    total, count = 0.0, 0
    for s_image, t_image, labels in zip(s, t, target, strict=True):
        keep = labels != 255
        s_kept, t_kept = s_image[:, keep].T, t_image[:, keep].T
        q, p = (s_kept / tau_f).softmax(1), (t_kept / tau_f).softmax(1)
        total = total + weight_f * tau_f**2 * (p * (p / q).log()).sum()
        q, p = (s_kept / tau_r).softmax(1), (t_kept / tau_r).softmax(1)
        total = total + weight_r * tau_r**2 * (q * (q / p).log()).sum()
        count += int(keep.sum())
    return total / max(count, 1)


def named(terms):
    names = ('forward_weight', 'reverse_weight', 'forward_temperature', 'reverse_temperature')
    return dict(zip(names, terms, strict=True))


def make(sizes='odd-ratios', classes=5, num=2, ignored=0.3, scale=1.0, seed=0):
    """Return float64 student (a leaf) and teacher logits, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student_size, teacher_size, size = SIZES[sizes]

    def randn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    target = torch.randint(0, classes, (num, *size), generator=generator)
    target[torch.rand((num, *size), generator=generator) < ignored] = 255
    student, teacher = randn(num, classes, *student_size), randn(num, classes, *teacher_size)
    return student.requires_grad_(), teacher, target


def value_and_grad(student, teacher, target, **kwargs):
    result = balanced_divergence(student, teacher, target, **kwargs)
    return result.loss.detach(), torch.autograd.grad(result.loss, student)[0]


def assert_matches(actual, loss, student, tolerance=1e-11):
    """Compare (value, gradient) with a differentiable truth."""
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(actual[0], loss.detach(), rtol=tolerance, atol=tolerance)
    scale = max(1e-3, gradient.abs().max().item())
    torch.testing.assert_close(actual[1], gradient, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('align_corners', [False, True])
def test_value_and_gradient_at_every_size(impl, sizes, align_corners):
    student, teacher, target = make(sizes)
    actual = value_and_grad(student, teacher, target, align_corners=align_corners, impl=impl)
    assert_matches(actual, truth(student, teacher, target, align_corners=align_corners), student)


TAUS = [(1, 1), (4, 4), (1, 2), (2, 1), (3, 0.7), (0.5, 4)]


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('taus', TAUS)
def test_value_and_gradient_at_every_temperature(impl, taus):
    student, teacher, target = make('ratio-8', scale=2.0)
    terms = (0.3, 7, *taus)
    actual = value_and_grad(student, teacher, target, **named(terms), impl=impl)
    assert_matches(actual, truth(student, teacher, target, terms), student)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('classes', [2, 11, 19, 150])
@pytest.mark.parametrize('ignored', [0.0, 0.1, 0.5])
def test_value_and_gradient_at_every_class_count(impl, classes, ignored):
    student, teacher, target = make(classes=classes, ignored=ignored)
    actual = value_and_grad(student, teacher, target, impl=impl)
    assert_matches(actual, truth(student, teacher, target), student)


def test_tiles_of_every_kind_add_up(monkeypatch):
    """One row, several rows with a remainder, several images: the cut must not matter."""
    for sizes, tile in itertools.product(SIZES, (1, 700, 10**6)):
        monkeypatch.setattr('balkd_seg.ops._chunked.TILE', tile)
        student, teacher, target = make(sizes, num=3)
        actual = value_and_grad(student, teacher, target)
        assert_matches(actual, truth(student, teacher, target), student)


def test_column_pieces_of_a_wide_image_join():
    student = torch.randn(1, 2, 3, 70, dtype=torch.float64, requires_grad=True)
    teacher, target = torch.randn(1, 2, 2, 90, dtype=torch.float64), torch.zeros(1, 6, 600).long()
    for align_corners in (False, True):
        actual = value_and_grad(student, teacher, target, align_corners=align_corners)
        loss = truth(student, teacher, target, align_corners=align_corners)
        assert_matches(actual, loss, student)


def test_hand_values():
    """p = (3/4, 1/4), q = (1/2, 1/2): KL(p||q) = 3/4 log 3 - log 2, KL(q||p) = log 2 - log(3)/2."""
    student = torch.zeros(3, 2, dtype=torch.float64)
    teacher = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64).expand(3, 2)
    result = balanced_divergence(student, teacher, reverse_weight=2.0)
    forward, reverse = 0.75 * math.log(3) - math.log(2), math.log(2) - 0.5 * math.log(3)
    assert math.isclose(result.forward, forward, rel_tol=1e-12)
    assert math.isclose(result.reverse, math.log(2) - 0.5 * math.log(3), rel_tol=1e-12)
    assert math.isclose(result.loss, forward + 2 * reverse, rel_tol=1e-12)


@pytest.mark.parametrize('impl', IMPLS)
def test_classification_is_an_image_of_samples(impl):
    student, teacher = (torch.randn(40, 7, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    target = torch.randint(0, 7, (40,))
    target[::5] = 255
    actual = value_and_grad(student, teacher, target, impl=impl)
    loss = truth(student.T[None, ..., None], teacher.T[None, ..., None], target[None, :, None])
    assert_matches(actual, loss, student)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('weights', [(1.0, 0.0), (0.0, 1.0)])
def test_one_weight_is_plain_kd_or_plain_reverse_kl(impl, weights):
    """Against `F.kl_div` as everybody spells it, and free of any trace of the other term."""
    student, teacher, _ = make('equal')
    tau = 3.0
    log_q, log_p = F.log_softmax(student / tau, 1), F.log_softmax(teacher / tau, 1)
    pair = (log_q, log_p) if weights[0] else (log_p, log_q)
    plain = tau**2 * F.kl_div(*pair, reduction='sum', log_target=True) / (2 * 9 * 8)
    terms = named((*weights, tau, tau))
    actual = value_and_grad(student, teacher, None, **terms, impl=impl)
    assert_matches(actual, plain, student, tolerance=1e-13)
    other = 'reverse_temperature' if weights[0] else 'forward_temperature'
    changed = value_and_grad(student, teacher, None, **{**terms, other: 0.9}, impl=impl)
    assert all(torch.equal(a, b) for a, b in zip(actual, changed, strict=True))


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('weights', [(1.0, 0.0), (0.0, 1.0)])
def test_a_term_of_weight_0_cannot_contaminate(impl, weights):
    """The other divergence is infinite: a class at -inf in one network only."""
    student, teacher, target = make('equal')
    blocked = (student if weights[1] else teacher).detach()
    blocked[:, 0] = -torch.inf
    result = balanced_divergence(student, teacher, target, **named((*weights, 1, 1)), impl=impl)
    (gradient,) = torch.autograd.grad(result.loss, student)
    finite, infinite = (result.forward, result.reverse)[:: 1 if weights[0] else -1]
    torch.testing.assert_close(result.loss, finite, rtol=1e-13, atol=0)
    assert infinite == torch.inf
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize('impl', IMPLS)
def test_infinite_divergence_is_infinite_without_a_gradient(impl):
    student, teacher, _ = make('equal', num=1)
    teacher[0, 2, 4, 5] = -torch.inf
    result = balanced_divergence(student, teacher, impl=impl)
    (gradient,) = torch.autograd.grad(result.loss, student)
    assert result.loss == torch.inf
    assert (gradient[0, :, 4, 5] == 0).all()
    assert (gradient[0, :, 4, 4] != 0).all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('logit', [0.0, -40.0, -80.0, -1e4])
def test_infinite_however_small_the_probability(impl, logit):
    """q * inf, not q times some large number, which may come out at any size."""
    student = torch.tensor([[0.0, 0.0, logit]], requires_grad=True)
    teacher = torch.tensor([[0.0, 1.0, -torch.inf]])
    result = balanced_divergence(student, teacher, impl=impl)
    assert result.loss == result.reverse == torch.inf
    assert result.forward < 1
    assert not torch.autograd.grad(result.loss, student)[0].any()


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('sizes', ['equal', 'odd-ratios', 'teacher-full'])
def test_class_at_minus_infinity_in_both_is_no_class(impl, dtype, sizes):
    student, teacher, target = make(sizes)
    student, teacher = student.detach().to(dtype), teacher.to(dtype)
    student[:, 1], teacher[:, 1] = -torch.inf, -torch.inf
    loss, gradient = value_and_grad(student.requires_grad_(), teacher, target, impl=impl)
    rest = [0, 2, 3, 4]
    fewer = student.detach()[:, rest].requires_grad_()
    expected = value_and_grad(fewer, teacher[:, rest], target, impl=impl)
    assert (gradient[:, 1] == 0).all()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(loss, expected[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient[:, rest], expected[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('sizes', ['equal', 'ratio-8', 'student-full'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('taus', TAUS)
def test_identical_logits_give_exactly_0(sizes, dtype, taus):
    student, _, target = make(sizes, scale=5.0)
    student = student.detach().to(dtype).requires_grad_()
    result = balanced_divergence(student, student.detach(), target, **named((1, 1, *taus)))
    (gradient,) = torch.autograd.grad(result.loss, student)
    assert result.loss == result.forward == result.reverse == 0
    assert result.agreement == 1
    assert not gradient.any()


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('softmax_axis', ['classes', 'positions'])
def test_everything_ignored_gives_0_with_a_usable_gradient(impl, softmax_axis):
    student, teacher, target = make(ignored=2.0)
    kwargs = {'softmax_axis': softmax_axis, 'impl': impl}
    result = balanced_divergence(student, teacher, target, **kwargs)
    assert [x.item() for x in result[:5]] == [0, 0, 0, 0, 0]
    assert torch.equal(torch.autograd.grad(result.loss, student)[0], torch.zeros_like(student))


@pytest.mark.parametrize('softmax_axis', ['classes', 'positions'])
def test_ignored_pixels_change_nothing(softmax_axis):
    """Neither as padding nor by what they hold, NaN and infinities included."""
    student, teacher, target = make('equal', ignored=0.4)
    kwargs = {'softmax_axis': softmax_axis}
    loss, gradient = value_and_grad(student, teacher, target, **kwargs)
    padded = [F.pad(z.detach(), (0, 3, 2, 0), value=v) for z, v in ((student, 9e3), (teacher, -7))]
    padded[0].masked_fill_(F.pad(target, (0, 3, 2, 0), value=255)[:, None] == 255, torch.nan)
    padded[1].masked_fill_(F.pad(target, (0, 3, 2, 0), value=255)[:, None] == 255, torch.inf)
    actual = value_and_grad(
        padded[0].requires_grad_(), padded[1], F.pad(target, (0, 3, 2, 0), value=255), **kwargs
    )
    torch.testing.assert_close(actual[0], loss, rtol=1e-13, atol=0)
    torch.testing.assert_close(actual[1][:, :, 2:, :-3], gradient, rtol=1e-12, atol=1e-15)
    assert not actual[1][:, :, :2].any()


@pytest.mark.parametrize('shift', [100.0, -100.0])
def test_a_constant_added_to_all_logits_changes_nothing(shift):
    student, teacher, target = make()
    loss, gradient = value_and_grad(student, teacher, target)
    shifted = (student.detach() + shift).requires_grad_()
    actual = value_and_grad(shifted, teacher - 2 * shift, target)
    torch.testing.assert_close(actual[0], loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(actual[1], gradient, rtol=1e-10, atol=1e-15)


def plain(student, teacher, target, terms):
    """What people write in PyTorch today, in the dtype that comes in."""
    weight_f, weight_r, tau_f, tau_r = terms
    size, keep = target.shape[1:], target != 255
    s, t = (F.interpolate(z, size, None, 'bilinear', False) for z in (student, teacher))

    def kl(a, b, tau):
        return F.kl_div(
            F.log_softmax(b / tau, 1), F.log_softmax(a / tau, 1), reduction='none', log_target=True
        ).sum(1)

    loss = weight_f * tau_f**2 * kl(t, s, tau_f) + weight_r * tau_r**2 * kl(s, t, tau_r)
    return (loss * keep).sum() / keep.sum()


@pytest.mark.parametrize('sizes', ['equal', 'ratio-8', 'odd-ratios'])
@pytest.mark.parametrize('scale', [1.0, 30.0, 1e4])
@pytest.mark.parametrize('taus', [(1, 1), (1, 2), (4, 1.5)])
def test_fp32_error_is_within_twice_that_of_plain_pytorch(sizes, scale, taus):
    terms = (1, 1, *taus)
    student, teacher, target = make(sizes, classes=19, scale=scale)
    single = student.detach().float().requires_grad_()
    teacher = teacher.float()
    # The truth of the very numbers that fp32 sees, in log space: finite at 1e4 too.
    student = single.detach().double().requires_grad_()
    loss = plain(student, teacher.double(), target, terms)
    (gradient,) = torch.autograd.grad(loss, student)
    ours = value_and_grad(single, teacher, target, **named(terms))
    eager = plain(single, teacher, target, terms)
    (eager_gradient,) = torch.autograd.grad(eager, single)
    assert ours[0].dtype == ours[1].dtype == torch.float32
    resolution = torch.finfo(torch.float32).eps
    assert (ours[0] - loss).abs() <= 2 * (eager - loss).abs() + 8 * resolution * loss
    bound = 2 * (eager_gradient - gradient).abs().max() + 2 * resolution * gradient.abs().max()
    assert (ours[1] - gradient).abs().max() <= bound


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('sizes', ['equal', 'odd-ratios'])
@pytest.mark.parametrize('impl', IMPLS)
def test_half_precision_is_fp32_inside(dtype, sizes, impl):
    student, teacher, target = make(sizes, scale=3.0)
    half, teacher = student.detach().to(dtype).requires_grad_(), teacher.to(dtype)
    exact = half.detach().double().requires_grad_()
    loss = truth(exact, teacher.double(), target)
    (gradient,) = torch.autograd.grad(loss, exact)
    loss = loss.detach()
    actual = value_and_grad(half, teacher, target, impl=impl)
    assert actual[0].dtype == torch.float32
    assert actual[1].dtype == dtype
    assert math.isclose(actual[0], loss, rel_tol=1e-5)
    # One rounding to the dtype, no more.
    spacing = torch.finfo(dtype).eps / 2
    error = (actual[1].double() - gradient).abs()
    assert (error <= 1.01 * spacing * gradient.abs() + 1e-6 * gradient.abs().max()).all()


@pytest.mark.parametrize('impl', IMPLS)
def test_autocast_does_not_reach_inside(impl):
    student, teacher, target = make()
    student, teacher = student.detach().float().requires_grad_(), teacher.float()
    outside = value_and_grad(student, teacher, target, impl=impl)
    with torch.autocast('cpu', torch.bfloat16):
        inside = value_and_grad(student, teacher, target, impl=impl)
    assert all(torch.equal(a, b) for a, b in zip(outside, inside, strict=True))


@pytest.mark.parametrize('sizes', ['equal', 'odd-ratios'])
def test_upstream_gradient_and_second_backward(sizes):
    student, teacher, target = make(sizes)
    (gradient,) = torch.autograd.grad(truth(student, teacher, target), student)
    loss = balanced_divergence(student, teacher, target).loss
    for factor in (-3.0, 65536.0, 0.0):
        (actual,) = torch.autograd.grad(factor * loss, student, retain_graph=True)
        torch.testing.assert_close(actual, factor * gradient, rtol=1e-11, atol=1e-14)


def test_double_backward_raises_instead_of_being_wrong():
    student, teacher, target = make()
    loss = balanced_divergence(student, teacher, target).loss
    with pytest.raises(RuntimeError, match=r"second derivative.*pass impl='reference'"):
        torch.autograd.grad(loss, student, create_graph=True)
    loss = balanced_divergence(student, teacher, target, impl='reference').loss
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), student)[0].abs().max() > 0


@pytest.mark.parametrize('impl', IMPLS)
def test_only_the_loss_and_only_the_student_carry_gradients(impl):
    student, teacher, target = make()
    result = balanced_divergence(student, teacher.requires_grad_(), target, impl=impl)
    assert [x.requires_grad for x in result[:5]] == [True, False, False, False, False]
    assert all(x.ndim == 0 for x in result[:5])
    result.loss.backward()
    assert teacher.grad is None
    assert not balanced_divergence(student.detach(), teacher, target, impl=impl).loss.requires_grad
    with torch.no_grad():
        assert not balanced_divergence(student, teacher, target, impl=impl).loss.requires_grad


@pytest.mark.parametrize('impl', IMPLS)
def test_inputs_are_left_alone(impl):
    for sizes in ('equal', 'odd-ratios'):
        tensors = make(sizes)
        copies = [x.detach().clone() for x in tensors]
        balanced_divergence(*tensors, impl=impl).loss.backward()
        assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


@pytest.mark.parametrize('softmax_axis', ['classes', 'positions'])
@pytest.mark.parametrize('sizes', ['equal', 'odd-ratios'])
def test_gradcheck(softmax_axis, sizes):
    student, teacher, target = make(sizes, classes=3, num=1)

    def operation(z):
        return balanced_divergence(
            z, teacher, target, reverse_temperature=1.5, softmax_axis=softmax_axis
        ).loss

    assert torch.autograd.gradcheck(operation, student)


@pytest.mark.parametrize('impl', IMPLS)
def test_parts(impl):
    """Agreement and share of valid pixels counted by hand; parts without their weights."""
    student, teacher, target = make('equal', classes=3)
    terms = (0.2, 3.0, 2.0, 0.5)
    result = balanced_divergence(student, teacher, target, **named(terms), impl=impl)
    keep = target != 255
    agree = (student.argmax(1) == teacher.argmax(1))[keep].double().mean()
    torch.testing.assert_close(result.agreement.double(), agree)
    assert math.isclose(result.valid, keep.double().mean(), rel_tol=1e-6)
    forward = truth(student, teacher, target, (1, 0, *terms[2:]))
    reverse = truth(student, teacher, target, (0, 1, *terms[2:]))
    torch.testing.assert_close(result.forward, forward.detach())
    torch.testing.assert_close(result.reverse, reverse.detach())


@pytest.mark.parametrize('impl', IMPLS)
def test_nan_logits_show(impl):
    student, teacher, target = make('equal', ignored=0.0)
    teacher[0, 0, 0, 0] = torch.nan
    assert balanced_divergence(student, teacher, target, impl=impl).loss.isnan()


def test_no_images():
    student = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss, gradient = value_and_grad(student, student.detach(), torch.zeros(0, 4, 4).long())
    assert loss == 0
    assert gradient.shape == student.shape


# PyTorch's own tracing looks at the `.grad` of what is not a leaf.
@pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor:UserWarning')
def test_torch_compile_of_a_caller_gives_the_same():
    student, teacher, target = make('equal')
    expected = value_and_grad(student, teacher, target)
    caller = torch.compile(
        lambda z: 2 * balanced_divergence(3 * z / 3, teacher, target).loss, backend='eager'
    )
    loss = caller(student)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(loss.detach(), 2 * expected[0])
    torch.testing.assert_close(gradient, 2 * expected[1])
