"""The Triton kernels, on a GPU or else in Triton's interpreter.

The yardstick is plain PyTorch in the same dtype: values and gradients of the kernels may be at most
twice as far from float64. Where plain PyTorch happens to be exact, rounding has to be allowed for:
8 eps of fp32 of a value, and, of the largest gradient, 2 eps of the dtype it is returned in.
"""

import os

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import _trust, balanced_divergence
from balkd_seg.ops._versions import why_no_triton

if why_no_triton():
    pytest.skip(why_no_triton(), allow_module_level=True)

from balkd_seg.ops import _fused, _fused_upsample, _select

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TEACHER = 'teacher_gradient'


@pytest.fixture(autouse=True)
def _trusted(monkeypatch):
    """Leave out the check of the first call: it would be counted, and these tests check more."""
    monkeypatch.setattr(_trust, 'must_be_earned', lambda device: False)


@pytest.mark.gpu
@pytest.mark.skipif(
    DEVICE == 'cpu' and os.environ.get('BALKD_REQUIRE_GPU') != '1', reason='needs a CUDA device'
)
def test_the_kernels_ran_on_a_gpu():
    """Keeps a run that must have a GPU from passing in the interpreter."""
    assert DEVICE == 'cuda'
    assert os.environ.get('TRITON_INTERPRET') != '1'


def make(classes, low, size=None, *, teacher_low=None, num=1, ignored=0.3, scale=1.0, seed=0):
    """Return float64 logits, student first, and labels."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    size = size or low
    target = torch.randint(0, classes, (num, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = 255
    return randn(num, classes, *low), randn(num, classes, *(teacher_low or low)), target


def plain(student, teacher, target, *, taus=(1, 1), weights=(1, 1), task=0, class_weight=None,
          avg_non_ignore=False, align_corners=False):  # fmt: skip
    """What people write in PyTorch today, in the dtype that comes in."""
    keep, size = target != 255, target.shape[1:]
    if student.shape[2:] != size or teacher.shape[2:] != size:
        student, teacher = (
            F.interpolate(z, size, None, 'bilinear', align_corners) for z in (student, teacher)
        )

    def kl(a, b, tau):
        log_a, log_b = F.log_softmax(a / tau, 1), F.log_softmax(b / tau, 1)
        value = F.kl_div(log_b, log_a, reduction='none', log_target=True)
        return tau**2 * torch.where(keep, value.sum(1), 0).sum() / keep.sum().clamp(min=1)

    loss = weights[0] * kl(teacher, student, taus[0]) + weights[1] * kl(student, teacher, taus[1])
    if not task:
        return loss
    weight = None if class_weight is None else class_weight.to(student)
    total = F.cross_entropy(student, target, weight, ignore_index=255, reduction='sum')
    units = keep.sum() if avg_non_ignore else keep.numel()
    if weight is not None:
        units = torch.where(keep, weight[target.masked_fill(~keep, 0)], 0).sum()
    return loss + task * total / units


def fused(student, teacher, target, *, taus=(1, 1), weights=(1, 1), task=0, **kwargs):
    return balanced_divergence(
        student, teacher, target, forward_weight=weights[0], reverse_weight=weights[1],
        forward_temperature=taus[0], reverse_temperature=taus[1], cross_entropy_weight=task,
        impl='fused', **kwargs,
    )  # fmt: skip


def gradients(loss, student, teacher):
    leaves = [z for z in (student, teacher) if z.requires_grad]
    return torch.autograd.grad(loss, leaves)


def check(student, teacher, target, dtype=torch.float32, teacher_gradient=False, **kwargs):
    """Hold the kernels to float64 with the error of plain PyTorch in `dtype` as the yardstick."""
    pairs, target = [], target.to(DEVICE)
    if kwargs.get('class_weight') is not None:
        kwargs['class_weight'] = kwargs['class_weight'].to(DEVICE)
    rounded = [z.to(dtype) for z in (student, teacher)]
    for function, as_dtype in ((plain, torch.float64), (plain, dtype), (fused, dtype)):
        s, t = (z.to(DEVICE, as_dtype) for z in rounded)
        s.requires_grad_()
        t.requires_grad_(teacher_gradient)
        extra = {TEACHER: True} if function is fused and teacher_gradient else {}
        loss = function(s, t, target, **kwargs, **extra)
        loss = loss if function is plain else loss.loss
        pairs.append((loss.detach().double(), [g.double() for g in gradients(loss, s, t)]))
    truth, eager, ours = pairs
    eps = torch.finfo(dtype).eps
    allowed = 2 * (eager[0] - truth[0]).abs() + 8 * torch.finfo(torch.float32).eps * truth[0].abs()
    assert (ours[0] - truth[0]).abs() <= allowed
    for exact, theirs, actual in zip(truth[1], eager[1], ours[1], strict=True):
        largest = exact.abs().max()
        allowed = 2 * (theirs - exact).abs().max() + 2 * eps * largest
        assert (actual - exact).abs().max() <= allowed
        assert actual.abs().max() > 0
    return ours


TAUS = [(1, 1), (4, 4), (1, 2), (2, 1), (4, 2), (3, 0.7)]


@pytest.mark.parametrize('classes', [2, 11, 19, 24, 25, 41, 150, 171, 256])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_full_resolution_at_every_class_count(classes, dtype):
    check(*make(classes, (6, 7), num=2), dtype, teacher_gradient=classes == 19, task=0.5)


@pytest.mark.parametrize('taus', TAUS)
@pytest.mark.parametrize('task', [0, 0.7])
def test_full_resolution_at_every_temperature(taus, task):
    student, teacher, target = make(5, (6, 7), scale=3.0)
    check(student, teacher, target, taus=taus, task=task, teacher_gradient=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('scale', [30.0, 1e4])
@pytest.mark.parametrize('low', [(8, 12), (2, 3)])
def test_large_logits(dtype, scale, low):
    check(*make(7, low, (8, 12), scale=scale, ignored=0.1), dtype, taus=(1, 2))


# (student, teacher, label)
SIZES = {
    'ratio-8': ((2, 3), (2, 3), (16, 24)),
    'ratio-4': ((3, 2), (3, 2), (12, 8)),
    'odd-ratios': ((3, 2), (3, 2), (10, 9)),
    'two-sizes': ((2, 3), (3, 5), (12, 15)),
    'teacher-finer': ((1, 2), (4, 8), (8, 16)),
    'teacher-full': ((2, 3), (6, 9), (6, 9)),
    'student-full': ((5, 6), (2, 3), (5, 6)),
    'one-pixel': ((1, 1), (1, 2), (3, 4)),
}


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('align_corners', [False, True])
def test_upsampling_at_every_size(sizes, align_corners):
    low, teacher_low, size = SIZES[sizes]
    case = make(3, low, size, teacher_low=teacher_low, num=1 + (sizes == 'ratio-4'))
    check(*case, align_corners=align_corners, task=0.5, teacher_gradient=sizes == 'two-sizes')


@pytest.mark.parametrize('taus', TAUS)
def test_upsampling_at_every_temperature(taus):
    check(*make(4, (1, 2), (4, 8), scale=3.0), taus=taus, task=0.7)


@pytest.mark.parametrize(
    ('classes', 'dtype'),
    [
        (2, torch.float32),
        (19, torch.bfloat16),
        (30, torch.float16),
        (150, torch.float32),
        (256, torch.bfloat16),
    ],
)
def test_upsampling_at_every_class_count(classes, dtype):
    check(*make(classes, (1, 2), (4, 8)), dtype, task=1.0)


@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize(('avg_non_ignore', 'dtype'), [(False, torch.uint8), (True, torch.int32)])
def test_cross_entropy_is_normalised_as_in_mmseg(low, weighted, avg_non_ignore, dtype):
    student, teacher, target = make(4, low, (4, 6), num=2)
    weight = torch.tensor([0.5, 1, 2, 3]) if weighted else None
    kwargs = {'task': 0.4, 'class_weight': weight, 'avg_non_ignore': avg_non_ignore}
    check(student, teacher, target, **kwargs)
    args = [z.float().to(DEVICE) for z in (student, teacher)]
    expected = fused(*args, target.to(DEVICE), **kwargs).loss
    assert fused(*args, target.to(DEVICE, dtype), **kwargs).loss == expected


@pytest.mark.parametrize('low', [(8, 12), (2, 3)])
def test_parts_are_those_of_the_reference(low):
    student, teacher, target = make(5, low, (8, 12), num=2, ignored=0.2)
    kwargs = {'cross_entropy_weight': 0.3, 'forward_weight': 0.5, 'reverse_temperature': 3.0}
    student, teacher, target = (
        student.float().to(DEVICE),
        teacher.float().to(DEVICE),
        target.to(DEVICE),
    )
    expected = balanced_divergence(student, teacher, target, impl='reference', **kwargs)
    actual = balanced_divergence(student, teacher, target, impl='fused', **kwargs)
    torch.testing.assert_close(actual, expected)
    truth = F.interpolate(student.double(), (8, 12), mode='bilinear')
    hits = (truth.argmax(1) == target)[target != 255].double().mean()
    torch.testing.assert_close(actual.accuracy.double(), hits)


@pytest.mark.parametrize('low', [(8, 12), (2, 3)])
def test_everything_ignored(low):
    student, teacher, target = make(5, low, (8, 12), ignored=2.0)
    leaf = student.float().to(DEVICE).requires_grad_()
    result = fused(leaf, teacher.float().to(DEVICE), target.to(DEVICE), task=1.0)
    assert [x.item() for x in result if x is not None] == [0] * 8
    assert not torch.autograd.grad(result.loss, leaf)[0].any()


# numpy, under the interpreter
NAN_WARNINGS = ('ignore:All-NaN:RuntimeWarning', 'ignore:invalid value:RuntimeWarning')


@pytest.mark.filterwarnings(*NAN_WARNINGS)
def test_what_ignored_pixels_hold_does_not_matter():
    student, teacher, target = make(5, (8, 12))
    student, teacher = student.float(), teacher.float()
    expected = values(student, teacher, target)
    hidden = (target == 255)[:, None]
    changed = values(
        student.masked_fill(hidden, torch.nan), teacher.masked_fill(hidden, torch.inf), target
    )
    assert all(torch.equal(a, b) for a, b in zip(changed, expected, strict=True))


def values(student, teacher, target, **kwargs):
    leaf = student.to(DEVICE).requires_grad_()
    result = fused(leaf, teacher.to(DEVICE), target.to(DEVICE), **kwargs)
    return result.loss.detach(), torch.autograd.grad(result.loss, leaf)[0]


@pytest.mark.parametrize('sizes', [((6, 8), (6, 8)), ((3, 4), (3, 4)), ((3, 4), (2, 2))])
def test_class_at_minus_infinity_in_both_is_no_class(sizes):
    student, teacher, target = make(5, sizes[0], (6, 8), teacher_low=sizes[1])
    target[target == 1] = 0
    student, teacher = student.float(), teacher.float()
    student[:, 1], teacher[:, 1] = -torch.inf, -torch.inf
    loss, gradient = values(student, teacher, target, task=1.0)
    rest = [0, 2, 3, 4]
    fewer = torch.where((target > 1) & (target < 255), target - 1, target)
    expected = values(student[:, rest], teacher[:, rest], fewer, task=1.0)
    assert not gradient[:, 1].any()
    torch.testing.assert_close(loss, expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient[:, rest], expected[1], rtol=1e-5, atol=1e-8)


@pytest.mark.filterwarnings(*NAN_WARNINGS)
@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
def test_nan_logits_and_labels_that_are_no_class_show(low):
    student, teacher, target = make(3, low, (4, 6), ignored=0.0)
    target[0, 0, 0] = 3
    assert values(student.float(), teacher.float(), target, task=1.0)[0].isnan()
    target[0, 0, 0] = 0
    teacher[0, 0, 0, 0] = torch.nan
    assert values(student.float(), teacher.float(), target)[0].isnan()


@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
@pytest.mark.parametrize('hidden', [1, 255])
def test_a_label_beyond_int32_is_no_class_and_not_ignored(low, hidden):
    student, teacher, target = make(3, low, (4, 6), ignored=0.0)
    target[0, 0, 0] = 2**32 + hidden
    args = student.float(), teacher.float(), target
    assert values(*args, task=1.0)[0].isnan()
    parts = fused(*(z.to(DEVICE) for z in args), task=1.0)
    assert parts.cross_entropy.isnan()
    assert parts.forward.isfinite()
    assert parts.valid == 1


@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
@pytest.mark.parametrize('impl', ['fused', 'chunked', 'reference'])
def test_a_class_of_weight_0_does_not_count_even_where_it_is_excluded(low, impl):
    student, teacher, target = make(3, low, (4, 6), num=2)
    student, teacher = student.float().to(DEVICE), teacher.float().to(DEVICE)
    student[:, 1], teacher[:, 1] = -torch.inf, -torch.inf
    weight = torch.tensor([1.0, 0.0, 2.0], device=DEVICE)
    results = []
    for labels in (target, target.masked_fill(target == 1, 255)):
        leaf = student.clone().requires_grad_()
        parts = balanced_divergence(
            leaf, teacher, labels.to(DEVICE), cross_entropy_weight=1.0, class_weight=weight,
            impl=impl,
        )  # fmt: skip
        results.append(parts.cross_entropy)
        assert torch.autograd.grad(parts.loss, leaf)[0].isfinite().all()
    assert results[0] > 0
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
@pytest.mark.parametrize('taus', TAUS)
def test_identical_logits_give_a_loss_of_exactly_0(low, taus):
    """The gradient is a difference of two equal products, of which a GPU rounds only one (FMA)."""
    student, _, target = make(5, low, (4, 6), scale=5.0)
    loss, gradient = values(student.float(), student.float(), target, taus=taus)
    assert loss == 0
    outputs = 24 // (low[0] * low[1])  # that send their gradient to one logit
    unit = torch.finfo(torch.float32).eps * sum(taus) / (target != 255).sum().item()
    assert gradient.abs().max() <= 4 * outputs * unit


class Grids:
    """Stands for a kernel and notes what grids it is launched on."""

    def __init__(self, kernel):
        self.kernel, self.seen = kernel, []

    def __getitem__(self, grid):
        self.seen.append(grid)
        return self.kernel[grid]


@pytest.fixture
def grids(monkeypatch):
    """Launch as on a GPU, with the layouts that it has there, and note the grids."""
    monkeypatch.setattr(_fused, 'interpreted', lambda: False)
    monkeypatch.setattr(_fused, 'full_resolution', Grids(_fused.full_resolution))
    return _fused.full_resolution.seen


def test_classification(grids):
    """Samples are the pixels of one row, of which a program takes many."""
    student, teacher, target = make(7, (600, 1), ignored=0.2)
    loss, gradient = values(
        student[0, :, :, 0].T.float(), teacher[0, :, :, 0].T.float(), target[0, :, 0]
    )
    assert grids == [(3,)]
    expected = values(student.float(), teacher.float(), target)
    torch.testing.assert_close(loss, expected[0])
    torch.testing.assert_close(gradient, expected[1][0, :, :, 0].T)


def test_several_programs_and_rows_that_do_not_lie_behind_one_another(grids):
    student, teacher, target = make(3, (2, 200))
    student, teacher = student.float().to(DEVICE), teacher.float().to(DEVICE)
    expected = values(student, teacher, target, task=1.0)
    actual = values(F.pad(student, (0, 1))[..., :-1], teacher, target, task=1.0)
    assert grids == [(4,), (2 * 2,)]
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        expected[0].cpu(), plain(student.cpu(), teacher.cpu(), target, task=1.0)
    )


def test_every_layout_can_be_launched():
    for classes in range(2, 257):
        for tiles in range(3, 11):
            for module in (_fused, _fused_upsample):
                found = module.layout(classes, tiles)
                assert 1 <= found.num_warps <= 8, (classes, tiles)
                assert found.groups * -(-classes // found.groups) >= classes


def cells_of(num_in, num_out, align):
    """Return the lower neighbour of every output, by the definition of bilinear upsampling."""
    outputs = torch.arange(num_out)
    if align:
        return outputs * (num_in - 1) // (num_out - 1)
    return torch.div((2 * outputs + 1) * num_in - num_out, 2 * num_out, rounding_mode='floor')


def test_cells_cover_every_output_for_any_ratio():
    """As narrow as can be: 97 to 769 with aligned corners are cells of 8 columns, not 16."""
    for align in (False, True):
        for num_in in (*range(1 + align, 20), 65, 97):
            for num_out in (*range(num_in, 8 * num_in + 3), 512, 513, 769, 4096):
                if num_out < num_in:
                    continue
                widest = cells_of(num_in, num_out, align).clamp(min=-1).add(1).bincount().max()
                for columns in (8, 128):
                    cells = _fused_upsample.Cells.of(num_in, num_out, align, columns)
                    assert cells.width * cells.chunks >= widest
                    assert cells.width * cells.strip == columns
                    assert cells.chunks == 1 or cells.strip == 1
    assert _fused_upsample.Cells.of(97, 769, True, 128) == (8, 16, 1)
    assert _fused_upsample.Cells.of(65, 513, False, 128) == (8, 16, 1)
    assert _fused_upsample.Cells.of(2, 512, False, 32) == (32, 1, 8)


@pytest.mark.parametrize(('align_corners', 'teacher_low'), [(False, (1, 2)), (True, (2, 3))])
def test_wide_cells_are_cut(align_corners, teacher_low, monkeypatch):
    monkeypatch.setattr(_fused_upsample, 'layout', lambda *_: _fused_upsample.Layout(2, 4, 1))
    case = make(3, (1, 2), (2, 13), teacher_low=teacher_low)
    check(*case, align_corners=align_corners, task=0.5)


def test_offsets_beyond_int32():
    """Classes 2^31 elements apart: pages that nobody touches take no memory."""
    student, teacher, target = make(2, (1, 50), ignored=0.1)
    expected = values(student.bfloat16(), teacher.bfloat16(), target)
    far = torch.empty(2**31 + 100, dtype=torch.bfloat16, device=DEVICE)
    apart = far.as_strided((1, 2, 1, 50), (0, 2**31 + 40, 50, 1))
    apart.copy_(student.bfloat16())
    actual = values(apart, teacher.bfloat16(), target)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize('low', [(8, 12), (2, 3)])
def test_the_same_bits_every_time(low):
    student, teacher, target = make(7, low, (8, 12), num=2)
    first, *others = (values(student.float(), teacher.float(), target, task=1.0) for _ in range(3))
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_fp16_gradients_survive_a_loss_scale():
    """At full resolution they are computed again in backward, already scaled."""
    student, teacher, target = make(5, (30, 40), ignored=0.0)
    half = student.half().to(DEVICE).requires_grad_()
    teacher, target = teacher.half().to(DEVICE), target.to(DEVICE)
    exact = half.detach().double().requires_grad_()
    loss = 2**16 * plain(exact, teacher.double(), target)
    loss.backward()
    (2**16 * fused(half, teacher, target).loss).backward()
    error = (half.grad.double() - exact.grad).abs()
    assert (error <= 1.01 * 2**-11 * exact.grad.abs() + 1e-6 * exact.grad.abs().max()).all()


def test_a_half_precision_teacher_without_gradient_costs_no_second_pass():
    student, teacher, target = make(3, (4, 6))
    leaf = student.float().to(DEVICE).requires_grad_()
    loss = fused(leaf, teacher.half().to(DEVICE), target.to(DEVICE)).loss
    assert loss.grad_fn.gradient == 'save'


@pytest.mark.parametrize('sizes', [(8, 12), (2, 3)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_upstream_gradient_retained_graph_and_accumulation(sizes, dtype):
    student, teacher, target = make(5, sizes, (8, 12))
    leaf = student.to(DEVICE, dtype).requires_grad_()
    loss = fused(leaf, teacher.to(DEVICE, dtype), target.to(DEVICE)).loss
    (once,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    for factor in (-4.0, 1.0, 0.0, 256.0):
        (scaled,) = torch.autograd.grad(factor * loss, leaf, retain_graph=True)
        torch.testing.assert_close(scaled, factor * once, rtol=2e-3, atol=1e-6)
    loss.backward()
    for factor in (1.0, 2.0):
        again = fused(leaf, teacher.to(DEVICE, dtype), target.to(DEVICE)).loss
        (factor * again).backward()
    torch.testing.assert_close(leaf.grad, 4 * once, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize('factor', [1.0, 0.5])
def test_scaling_in_place(factor):
    from balkd_seg.ops._fused import scale_

    tensor = torch.arange(5000, dtype=torch.float32, device=DEVICE)
    scale_(tensor, torch.tensor(factor, device=DEVICE))
    assert torch.equal(tensor, factor * torch.arange(5000, device=DEVICE))


def test_double_backward_raises():
    student, teacher, target = make(5, (4, 6))
    leaf = student.float().to(DEVICE).requires_grad_()
    loss = fused(leaf, teacher.float().to(DEVICE), target.to(DEVICE)).loss
    with pytest.raises(RuntimeError, match=r"second derivative.*pass impl='reference'"):
        torch.autograd.grad(loss, leaf, create_graph=True)


def test_evaluation_without_gradients():
    student, teacher, target = make(5, (2, 3), (8, 12))
    student, teacher, target = (
        student.float().to(DEVICE),
        teacher.float().to(DEVICE),
        target.to(DEVICE),
    )
    expected = fused(student.clone().requires_grad_(), teacher, target)
    with torch.no_grad():
        actual = fused(student.requires_grad_(), teacher, target)
    assert not actual.loss.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(actual[:5], expected[:5], strict=True))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'softmax_axis': 'positions'}, "impl='fused', but the softmax goes over positions; use"),
        ({'dtype': torch.float64}, 'but the logits are torch.float64'),
        ({'classes': 257}, 'but there are 257 classes, more than 256'),
        ({'size': (2, 3)}, r'but logits are reduced, not enlarged, to \(2, 3\)'),
        ({'num': 0}, 'but there is nothing to compute'),
    ],
)
def test_what_is_not_fused_is_refused(change, message):
    change = dict(change)
    dtype, size = change.pop('dtype', torch.float32), change.pop('size', (4, 6))
    classes, num = change.pop('classes', 3), change.pop('num', 1)
    student, teacher, target = make(classes, (4, 6), size, num=num)
    args = [z.to(DEVICE, dtype) for z in (student, teacher)]
    with pytest.raises(ValueError, match=message):
        balanced_divergence(*args, target.to(DEVICE), impl='fused', **change)
    # What the user asked for comes, if not fused.
    assert balanced_divergence(*args, target.to(DEVICE), **change).loss.isfinite()


def test_an_image_too_large_is_refused():
    low = torch.empty(1, 1).expand(1, 3, 2, 2)
    huge = torch.empty(1, dtype=torch.bool).expand(1, 40000, 8)
    assert _select.why_not_fused(low.expand(1, 3, 2, 2), low, huge, False) == (
        'an image of (40000, 8) with logits of (3, 2, 2) is too large'
    )


@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
def test_every_launch_is_on_the_device_of_the_logits(low, monkeypatch):
    """Triton launches on the current device, and on its current stream."""
    entered, launched = [], []

    class Entered:
        def __init__(self, tensor):
            self.tensor = tensor

        def __enter__(self):
            entered.append(self.tensor)

        def __exit__(self, *_):
            entered.pop()

    class Launched(Grids):
        def __getitem__(self, grid):
            launched.append([z.device for z in entered])
            return super().__getitem__(grid)

    kernels = ((_fused, 'full_resolution'), (_fused, 'scale'), (_fused_upsample, 'upsampled'),
               (_fused_upsample, 'gather'))  # fmt: skip
    for module, name in kernels:
        monkeypatch.setattr(module, name, Launched(getattr(module, name)))
        monkeypatch.setattr(module, 'device_of', Entered)
    student, teacher, target = make(3, low, (4, 6))
    _, gradient = values(student.float(), teacher.float(), target)
    _fused.scale_(gradient, gradient.new_tensor(2.0))
    assert launched == [[gradient.device]] * (2 if low == (4, 6) else 3)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two CUDA devices')
@pytest.mark.parametrize('low', [(4, 6), (2, 3)])
def test_logits_on_another_device_than_the_current_one(low):
    student, teacher, target = make(3, low, (4, 6))
    args = student.float(), teacher.float(), target
    results = [fused(*(z.to(device) for z in args)).loss.cpu() for device in ('cuda:0', 'cuda:1')]
    assert torch.equal(*results)


@pytest.mark.parametrize(('low', 'names'), [
    ((4, 6), {_fused: ['full_resolution']}), ((2, 3), {_fused_upsample: ['upsampled', 'gather']}),
])  # fmt: skip
def test_a_batch_is_only_limited_by_the_first_dimension_of_a_grid(low, names, monkeypatch):
    """The others of a GPU's end at 65535, whatever lies in them."""
    seen = []
    for module, kernels in names.items():
        for name in kernels:
            grids = Grids(getattr(module, name))
            grids.seen = seen
            monkeypatch.setattr(module, name, grids)
    student, teacher, target = make(3, low, (4, 6), num=3)
    args = student.float(), teacher.float(), target
    values(*args, task=1.0)
    assert len(seen) == len(next(iter(names.values())))
    assert all(len(grid) == 1 for grid in seen)
    many = [z[:1].expand(70000, *z.shape[1:]) for z in args]
    assert _select.why_not_fused(*many, False) is None
    monkeypatch.setattr(_select, '_MAX_PROGRAMS', max(grid[0] for grid in seen) - 1)
    message = 'a batch of 3 images of (4, 6) needs too many programs'
    assert _select.why_not_fused(*args, False) == message


def test_the_bound_on_programs_holds_for_every_layout(monkeypatch):
    generator = torch.Generator().manual_seed(0)

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    for _ in range(300):
        classes, size = draw(2, 257), (draw(1, 300), draw(1, 700))
        h, w = draw(1, size[0] + 1), draw(1, size[1] + 1)
        programs = [2 * classes * h * -(-w // 32)]
        for tiles in (3, 10):
            programs.append(2 * size[0] * -(-size[1] // _fused.layout(classes, tiles).block))
            columns = _fused_upsample.layout(classes, tiles).columns
            for align in {False, w > 1}:
                cells = _fused_upsample.Cells.of(w, size[1], align, columns)
                programs.append(2 * (h + 1) * -(-(w + 1) // cells.strip) * cells.chunks)
        monkeypatch.setattr(_select, '_MAX_PROGRAMS', max(programs) - 1)
        student = torch.empty(1).expand(2, classes, h, w)
        valid = torch.empty(1, dtype=torch.bool).expand(2, *size)
        assert _select._exceeds_grid(student, student, valid), (classes, h, w, size)


def test_without_kernels_the_reason_is_named(monkeypatch):
    student = torch.zeros(1, 3, 2, 2)
    monkeypatch.setenv('TRITON_INTERPRET', '0')
    with pytest.raises(ValueError, match='but the logits are on cpu, not on a CUDA device; use'):
        balanced_divergence(student, student, impl='fused')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='but Triton is not installed; use'):
        balanced_divergence(student, student, impl='fused')
