"""What every operation between two dense outputs has to survive; the operations list themselves.

An operation is a public function of `balkd_seg.ops`, called as (student, teacher, target). It
compares logits or, if its first argument says so, features.
"""

import inspect

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from balkd_seg import ops

OPERATIONS = [getattr(ops, name) for name in ops.__all__ if name.islower()]
OF_LOGITS = [x for x in OPERATIONS if 'student_logits' in inspect.signature(x).parameters]

every = pytest.mark.parametrize('operation', OPERATIONS, ids=lambda x: x.__name__)
every_of_logits = pytest.mark.parametrize('operation', OF_LOGITS, ids=lambda x: x.__name__)


def make(size=(6, 8), scale=1.0, dtype=torch.float64, num=2, label_size=(12, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        (scale * torch.randn(num, 5, *size, generator=generator, dtype=torch.float64)).to(dtype)
        for _ in range(2)
    )
    target = torch.randint(0, 5, (num, *label_size), generator=generator)
    target[:, :4] = 255
    return student.requires_grad_(), teacher, target


def value_and_grad(operation, student, teacher, target, **settings):
    result = operation(student, teacher, target, **settings)
    return result.loss.detach(), torch.autograd.grad(result.loss, student)[0]


def test_the_operations_are_found():
    assert 'balanced_divergence' in [x.__name__ for x in OF_LOGITS]
    assert set(OPERATIONS) >= set(OF_LOGITS)


@every
def test_what_must_not_train_has_no_loss_in_its_name_and_no_gradient(operation):
    """Because mmengine sums every entry with `loss` in its name into what is differentiated."""
    result = operation(*make())
    assert result._fields[0] == 'loss'
    watched = [value for value in result[1:] if value is not None]
    assert not any('loss' in name for name in result._fields[1:])
    assert all(value.ndim == 0 and not value.requires_grad for value in watched)
    assert result.loss.ndim == 0
    torch.testing.assert_close(result.valid.double(), torch.tensor(8 / 12).double())


@every
def test_identical_outputs_give_0(operation):
    student, _, target = make()
    loss, gradient = value_and_grad(operation, student, student.detach().clone(), target)
    assert loss.abs() < 1e-12
    assert gradient.abs().max() < 1e-12
    alike = operation(student.float(), student.detach().float(), target).loss
    assert 0 <= alike < 1e-6


@every
def test_nothing_that_counts_gives_0_and_a_usable_gradient(operation):
    student, teacher, target = make()
    loss, gradient = value_and_grad(operation, student, teacher, torch.full_like(target, 255))
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(student))


@every
def test_an_image_that_does_not_count_changes_nothing(operation):
    student, teacher, target = make(num=3)
    target[2] = 255
    loss, gradient = value_and_grad(operation, student, teacher, target)
    alone = student.detach()[:2].requires_grad_()
    expected, of_two = value_and_grad(operation, alone, teacher[:2], target[:2])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient[:2], of_two)
    assert not gradient[2].any()


@every
@pytest.mark.parametrize('resize', ['student', 'none'])
def test_ignored_places_may_hold_anything(operation, resize):
    student, teacher, target = make()
    expected = value_and_grad(operation, student, teacher, target, resize=resize)
    other = student.detach().clone()
    other[:, :, :2] = 1e4 * torch.randn_like(other[:, :, :2])  # below rows 0 to 3 of the label
    wild = value_and_grad(operation, other.requires_grad_(), teacher, target, resize=resize)
    torch.testing.assert_close(wild, expected)
    assert not wild[1][:, :, :2].any()
    for hold in (torch.nan, torch.inf, -torch.inf):
        teacher = teacher.clone()
        teacher[:, :, :2] = hold
        other = student.detach().clone()
        other[:, 1:3, :2] = hold  # in some channels alone
        broken = value_and_grad(operation, other.requires_grad_(), teacher, target, resize=resize)
        torch.testing.assert_close(broken, expected)


@every
@pytest.mark.parametrize('align_corners', [False, True])
def test_what_has_no_share_in_a_place_that_counts_may_be_broken(operation, align_corners):
    """The first of three rows has a share in the first six of twelve."""
    student, teacher, target = make(size=(3, 4))
    target[:, :6] = 255
    settings = dict(resize='label', align_corners=align_corners)
    expected = value_and_grad(operation, student, teacher, target, **settings)
    broken = student.detach().clone(), teacher.clone()
    broken[0][:, 1:3, 0], broken[1][:, :, 0] = torch.nan, torch.inf
    actual = value_and_grad(operation, broken[0].requires_grad_(), broken[1], target, **settings)
    torch.testing.assert_close(actual, expected)
    broken[0].detach()[:, 0, 1, 0] = torch.nan
    assert operation(*broken, target, **settings).loss.isnan()


@every
def test_it_does_not_grow_with_the_image(operation):
    """Of an image that repeats itself the mean is that of one period."""
    student, teacher, target = make()
    twice = [x.detach().repeat(1, 1, 1, 2) for x in (student, teacher)]
    settings = dict(resize='student')
    one = operation(student, teacher, target, **settings).loss
    two = operation(*twice, target.repeat(1, 1, 2), **settings).loss
    if operation.__name__ == 'cross_image_relation':  # where every place has twice as many others
        assert two < 1.5 * one
    else:
        torch.testing.assert_close(two, one)


@every
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_large_outputs_stay_finite(operation, dtype):
    student, teacher, target = make(scale=1e4, dtype=dtype)
    loss, gradient = value_and_grad(operation, student, teacher, target)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    assert loss.isfinite()
    assert gradient.isfinite().all()


@every_of_logits
def test_a_class_that_neither_network_knows_is_not_there(operation):
    student, teacher, target = make()
    target = target.where(target == 255, target % 4)
    unknown = torch.tensor([0, 0, 0, 0, -torch.inf]).view(5, 1, 1)
    with_it = value_and_grad(operation, student, teacher + unknown, target)  # of the teacher alone
    assert not with_it[0].isnan()
    assert with_it[1].isfinite().all()
    masked = (student.detach() + unknown).requires_grad_()
    loss, gradient = value_and_grad(operation, masked, teacher + unknown, target)
    known = student.detach()[:, :4].requires_grad_()
    expected, of_known = value_and_grad(operation, known, teacher[:, :4], target)
    assert gradient.isfinite().all()
    assert not gradient[:, 4].any()
    if operation.__name__ != 'class_correlation':  # whose mean of probabilities is over classes
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient[:, :4], of_known)


@every
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(operation, dtype):
    student, teacher, target = make()
    student, teacher = (z.detach().to(dtype) for z in (student, teacher))
    expected = operation(student.double(), teacher.double(), target).loss
    with torch.autocast('cpu', dtype=torch.bfloat16):
        result = operation(student.requires_grad_(), teacher, target)
    torch.testing.assert_close(result.loss.double(), expected, rtol=2e-4, atol=1e-6)
    result.loss.backward()
    assert student.grad.dtype == dtype


@every
def test_any_layout(operation):
    student, teacher, target = make()
    expected = value_and_grad(operation, student, teacher, target)
    for change in (
        lambda z: z.to(memory_format=torch.channels_last),
        lambda z: z.mT.contiguous().mT,
        lambda z: torch.cat((z, z), 1)[:, :5],
    ):
        other = change(student.detach()).requires_grad_()
        assert other.shape == student.shape
        torch.testing.assert_close(
            value_and_grad(operation, other, change(teacher), target), expected
        )


@every
@pytest.mark.parametrize(('dtype', 'ignore_index'), [(torch.int8, 255), (torch.uint8, -1)])
def test_an_ignored_label_that_the_dtype_cannot_hold_ignores_nothing(
    operation, dtype, ignore_index
):
    student, teacher, target = make()
    target = target.where(target != 255, 0).to(dtype)  # 255 and -1 would be one byte
    expected = value_and_grad(operation, student, teacher, target.long(), resize='student')
    settings = dict(resize='student', ignore_index=ignore_index)
    torch.testing.assert_close(
        value_and_grad(operation, student, teacher, target, **settings), expected
    )


@every
def test_an_upstream_gradient_that_is_not_1(operation):
    student, teacher, target = make()
    _, gradient = value_and_grad(operation, student, teacher, target)
    (-0.25 * operation(student, teacher, target).loss).backward()
    torch.testing.assert_close(student.grad, -0.25 * gradient)


@every
def test_a_graph_that_is_computed_again(operation):
    student, teacher, target = make()
    _, gradient = value_and_grad(operation, student, teacher, target)
    loss = checkpoint(lambda z: operation(z, teacher, target).loss, student, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(2 * loss, student)[0], 2 * gradient)


@every
def test_inputs_stay_as_they_are_and_the_teacher_gets_no_gradient(operation):
    student, teacher, target = make()
    before = [x.detach().clone() for x in (student, teacher, target)]
    operation(student, teacher.requires_grad_(), target).loss.backward()
    assert teacher.grad is None
    assert all(map(torch.equal, before, (student, teacher, target)))
    with torch.no_grad():
        assert not operation(student, teacher, target).loss.requires_grad


class Watch(TorchDispatchMode):
    """Notes what makes Python wait for the device: a value read, a size that depends on data."""

    waits = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'item')

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.waits, name
        if name == 'index':
            assert not any(x is not None and x.dtype == torch.bool for x in args[1])
        return func(*args, **(kwargs or {}))


@every
def test_nothing_waits_for_the_device(operation):
    student, teacher, target = make(size=(12, 16))
    settings = {}
    if operation is ops.balanced_divergence:  # whose chunked form has its own tests
        settings['impl'] = 'reference'
    with Watch():
        operation(student, teacher, target, resize='none', **settings).loss.backward()
    assert student.grad.any()


@every
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(resize='teacher'), "`resize` to be one of .* but got 'teacher'"),
        (dict(resize='none'), "under resize='none', but got .*use resize='student'"),
        (dict(teacher=torch.zeros(3, 5, 6, 8)), 'of the same images, but got shapes'),
        (dict(student=torch.zeros(2, 5, 6)), r'of shape \(N, C, H, W\)'),
        (dict(student=torch.zeros(2, 5, 6, 8).long()), 'of a floating dtype, but got torch.int64'),
        (dict(target=torch.zeros(2, 12, 16)), '`target` of an integer dtype, but got'),
    ],
)
def test_bad_input_is_refused(operation, change, message):
    inputs = dict(zip(('student', 'teacher', 'target'), make(), strict=True))
    inputs['teacher'] = inputs['teacher'][..., :4]
    inputs.update({key: value for key, value in change.items() if key != 'resize'})
    settings = {key: value for key, value in change.items() if key == 'resize'}
    with pytest.raises(ValueError, match=message):
        operation(*inputs.values(), **settings)
