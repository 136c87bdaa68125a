"""The operator is the same, whichever of PyTorch's interfaces registers it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from balkd_seg.ops import _operator, _registration, balanced_divergence


@pytest.fixture(scope='module')
def as_before_2_4():
    """Return the operator, registered step by step under another name."""
    function = _operator.balanced_divergence._init_fn
    name = 'balkd_seg_tests::balanced_divergence'
    operator = _registration.LibraryOperator(name, _operator.SCHEMA, function)
    operator.register_fake(_operator._fake)
    operator.register_autograd(_operator._backward, setup_context=_operator._setup_context)
    return operator


def make(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, 4, 4, generator=generator).to(dtype).requires_grad_()
    teacher = torch.randn(2, 3, 2, 2, generator=generator).to(dtype).requires_grad_()
    return student, teacher, torch.randint(0, 3, (2, 8, 8), generator=generator)


def gradients(keep_graph=False, **settings):
    student, teacher, target = make(settings.pop('dtype', torch.float32))
    loss = balanced_divergence(student, teacher, target, impl='chunked', **settings).loss
    wanted = (student, teacher) if settings.get('teacher_gradient') else (student,)
    if keep_graph:
        torch.autograd.grad(loss, wanted, retain_graph=True)
    return loss, *torch.autograd.grad(3 * loss, wanted)


@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(cross_entropy_weight=0.5, reverse_temperature=2.0, dtype=torch.bfloat16),
        dict(teacher_gradient=True, entropy_weighting='image', delta=2.0, keep_graph=True),
    ],
    ids=['plain', 'bfloat16', 'both'],
)
def test_both_registrations_give_the_same(as_before_2_4, monkeypatch, settings):
    expected = gradients(**settings)
    monkeypatch.setattr(_operator, 'balanced_divergence', as_before_2_4)
    for one, other in zip(gradients(**settings), expected, strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        assert torch.equal(gradients_free(**settings), expected[0].detach())


def gradients_free(dtype=torch.float32, keep_graph=False, **settings):
    student, teacher, target = make(dtype)
    return balanced_divergence(student, teacher, target, impl='chunked', **settings).loss


def test_shapes_without_values(as_before_2_4, monkeypatch):
    monkeypatch.setattr(_operator, 'balanced_divergence', as_before_2_4)
    student, teacher, target = make()
    with FakeTensorMode() as mode:
        student, teacher, target = (mode.from_tensor(x) for x in (student, teacher, target))
        loss = balanced_divergence(student, teacher, target, impl='chunked').loss
        (gradient,) = torch.autograd.grad(loss, student)
    assert loss.shape == ()
    assert gradient.shape == student.shape


def test_second_derivatives_are_refused_there_too(as_before_2_4, monkeypatch):
    monkeypatch.setattr(_operator, 'balanced_divergence', as_before_2_4)
    student, teacher, target = make()
    loss = balanced_divergence(student, teacher, target, impl='chunked').loss
    with pytest.raises(RuntimeError, match="impl='reference' where one is needed"):
        torch.autograd.grad(loss, student, create_graph=True)


def test_the_schema_is_that_of_the_function():
    infer = getattr(torch.library, 'infer_schema', None)
    function = _operator.balanced_divergence._init_fn
    try:
        inferred = infer(function, mutates_args=())
    except (TypeError, ValueError):  # None before 2.4, does not know `list[float]` before 2.6
        pytest.skip('this PyTorch cannot read the signature')
    assert inferred == _operator.SCHEMA


def test_without_pytorchs_word_a_graph_is_taken_to_be_kept(monkeypatch):
    name = '_get_current_graph_task_keep_graph'
    monkeypatch.setattr(torch._C._autograd, name, lambda: False, raising=False)
    assert not _registration.graph_is_kept()
    monkeypatch.delattr(torch._C._autograd, name)
    assert _registration.graph_is_kept()


def test_an_older_pytorch_gets_the_older_interface(monkeypatch):
    monkeypatch.delattr(torch.library, 'custom_op', raising=False)
    name = 'balkd_seg_tests::twice'
    twice = _registration.operator(name, '(Tensor x) -> Tensor')(lambda x: 2 * x)
    assert isinstance(twice, _registration.LibraryOperator)
    assert torch.equal(twice(torch.ones(2)), torch.full((2,), 2.0))
