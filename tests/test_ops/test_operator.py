"""What autograd, torch.compile and the device see of the operator, on every implementation."""

import contextlib
import sys

import pytest
import torch
import torch._dynamo
from torch.utils._python_dispatch import TorchDispatchMode

from balkd_seg.ops import _operator, balanced_divergence

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
IMPLS = ('chunked', 'fused')
# (student, teacher, label)
SIZES = {'full': ((6, 8), (6, 8), (6, 8)), 'low': ((2, 3), (3, 4), (6, 8))}


def make(sizes='low', dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student_size, teacher_size, size = SIZES[sizes]
    student, teacher = (
        torch.randn(1, 3, *z, generator=generator).to(DEVICE, dtype)
        for z in (student_size, teacher_size)
    )
    target = torch.randint(0, 3, (1, *size), generator=generator)
    target[0, 0, :3] = 255
    return student.requires_grad_(), teacher, target.to(DEVICE)


def operator_inputs(sizes, impl, dtype=torch.float32, gradient='save'):
    """Return what the operator gets, as `balanced_divergence` calls it."""
    student, teacher, target = make(sizes, dtype)
    valid = target != 255
    coefficients = torch.tensor([[0.1, 0.2, 0.3]], device=DEVICE)
    temperatures = torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64)
    settings = (True, True, False, False, 255, 'image', impl, gradient, True, True)
    teacher = teacher.requires_grad_()
    return student, teacher, valid, target, None, coefficients, temperatures, *settings


needs_opcheck = pytest.mark.skipif(
    not hasattr(torch.library, 'opcheck'), reason='this PyTorch has no opcheck'
)


@needs_opcheck
@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('sizes', SIZES)
def test_opcheck(impl, sizes):
    inputs = operator_inputs(sizes, impl)
    torch.library.opcheck(_operator.balanced_divergence, inputs)


@needs_opcheck
def test_opcheck_of_channels_last(triton):
    student, teacher, *rest = operator_inputs('full', 'fused')
    student, teacher = (
        z.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        for z in (student, teacher)
    )
    torch.library.opcheck(_operator.balanced_divergence, (student, teacher, *rest))


@needs_opcheck
def test_opcheck_where_backward_computes_again(triton):
    inputs = operator_inputs('full', 'fused', torch.float16, 'recompute')
    # Its backward rounds to fp16; the other checks of opcheck do not compare gradients.
    utils = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(_operator.balanced_divergence, inputs, test_utils=utils)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
@pytest.mark.skipif(
    not hasattr(torch.library, 'custom_op'), reason='PyTorch before 2.4 breaks the graph there'
)
# PyTorch's own tracing looks at the `.grad` of what is not a leaf.
@pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor:UserWarning')
def test_compiles_as_one_graph(impl, sizes, dtype):
    student, teacher, target = make(sizes, dtype)
    weight = torch.tensor([1.0, 2.0, 3.0], device=DEVICE)

    def step(z):
        result = balanced_divergence(
            3 * z / 3, teacher, target, cross_entropy_weight=0.4, class_weight=weight, impl=impl
        )
        return 2 * result.loss, result.accuracy

    loss, accuracy = step(student)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend='aot_eager')
    actual = compiled(student)
    assert torch.equal(actual[1], accuracy)
    torch.testing.assert_close(actual[0], loss)
    torch.testing.assert_close(torch.autograd.grad(actual[0], student)[0], gradient)


NUMBERS = {
    'weights': lambda x: dict(forward_weight=x, reverse_weight=1 - x, cross_entropy_weight=x),
    'temperatures': lambda x: dict(forward_temperature=1 + x, reverse_temperature=2 * x),
    'weighting': lambda x: dict(entropy_weighting='image', delta=2 * x, entropy_temperature=x),
}


@pytest.mark.parametrize('impl', ['chunked', 'reference'])
@pytest.mark.parametrize('numbers', NUMBERS)
@pytest.mark.skipif(
    getattr(torch._dynamo.config, 'specialize_float', True),
    reason='PyTorch before 2.6 takes every number for a constant',
)
@pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor:UserWarning')
def test_a_compiled_graph_takes_other_numbers(impl, numbers):
    """What a schedule changes is compiled twice: as a constant, then as what changes."""
    student, teacher, target = make('full')
    # PyTorch 2.6 takes for a constant what the graph itself computes of a number
    inside = torch.__version__ >= '2.7'

    def step(x):
        settings = NUMBERS[numbers](x) if inside else x
        result = balanced_divergence(student, teacher, target, impl=impl, **settings)
        return result.loss, result.forward

    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for x in (0.9, 0.7, 0.6, 0.3, 0.2):
        x = x if inside else NUMBERS[numbers](x)
        actual, expected = compiled(x), step(x)
        torch.testing.assert_close(actual, expected)
        gradients = [torch.autograd.grad(y[0], student)[0] for y in (actual, expected)]
        torch.testing.assert_close(*gradients)
    assert counter.frame_count <= 2


class Watch(TorchDispatchMode):
    """Collects the names of the operations that run, also inside of the operator."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        if func.namespace == 'balkd_seg':
            with self:
                return _operator.balanced_divergence._init_fn(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


WAITS = {'_local_scalar_dense', 'item', 'nonzero', 'masked_select', 'is_nonzero', 'equal'}


@contextlib.contextmanager
def nothing_waits(impl):
    """Raise if a value is read on the host or a shape depends on data.

    On CUDA PyTorch tells, also of copies from the host, which interpolation matrices are: made of
    sizes, not of values, by the chunked implementation.
    """
    if DEVICE == 'cuda' and impl == 'fused':
        torch.cuda.set_sync_debug_mode('error')
    try:
        with Watch() as watch:
            yield watch
    finally:
        if DEVICE == 'cuda':
            torch.cuda.set_sync_debug_mode('default')
    assert watch.names & WAITS == set()


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('sizes', SIZES)
def test_nothing_waits_for_the_device(impl, sizes):
    """No value is read on the host, no shape depends on data, nothing is copied from the host."""
    student, teacher, target = make(sizes)
    weight = torch.ones(3, device=DEVICE)

    def steps():
        for settings in ({}, {'avg_non_ignore': True}, {'class_weight': weight}):
            result = balanced_divergence(
                student, teacher, target, cross_entropy_weight=1.0, impl=impl, **settings
            )
            (3 * result.loss).backward()

    if DEVICE == 'cuda':
        steps()  # the first call of a form looks at what the kernels give
    with nothing_waits(impl) as watch:
        steps()
    assert 'amax' in watch.names or impl == 'fused'  # what is inside was seen
    assert impl == 'chunked' or 'lift_fresh' not in watch.names


@pytest.mark.parametrize('impl', IMPLS)
def test_what_waits_inside_of_the_operator_is_seen(impl, monkeypatch):
    total = _operator.total

    def waits(sums, *args):
        sums.sum().item()
        return total(sums, *args)

    monkeypatch.setattr(_operator, 'total', waits)
    expected = RuntimeError if (DEVICE, impl) == ('cuda', 'fused') else AssertionError
    with pytest.raises(expected), nothing_waits(impl):
        balanced_divergence(*make(), impl=impl)


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, '_get_current_graph_task_keep_graph'),
    reason='this PyTorch does not tell whether the graph is kept',
)
@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('sizes', SIZES)
def test_a_gradient_that_nobody_keeps_is_scaled_in_place(impl, sizes):
    """And one that is kept is not."""
    student, teacher, target = make(sizes)
    expected = torch.autograd.grad(balanced_divergence(student, teacher, target).loss, student)[0]
    loss = balanced_divergence(student, teacher, target, impl=impl).loss
    saved = loss.grad_fn.saved_tensors[0]
    (kept,) = torch.autograd.grad(2 * loss, student, retain_graph=True)
    assert kept.data_ptr() != saved.data_ptr()
    torch.testing.assert_close(saved, expected)
    (owned,) = torch.autograd.grad(2 * loss, student)
    assert owned.data_ptr() == saved.data_ptr()
    torch.testing.assert_close(owned, 2 * expected)


class OnCuda(torch.Tensor):
    """Says that it is where Triton kernels would run."""

    is_cuda = True


def test_chunked_gradients_are_scaled_without_triton(monkeypatch):
    """In their own dtype, also on a GPU that has no kernels."""
    monkeypatch.delitem(sys.modules, 'balkd_seg.ops._fused', raising=False)
    monkeypatch.setitem(sys.modules, 'triton', None)
    gradient = torch.tensor([1 / 3, 1e-3 / 7], dtype=torch.float64)
    factor = torch.tensor(3.7, dtype=torch.float64)
    expected = gradient * factor
    actual = _operator.scaled(
        gradient.as_subclass(OnCuda), factor, torch.float64, True, 'chunked'
    ).as_subclass(torch.Tensor)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize('impl', [*IMPLS, 'reference'])
@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('positions', [False, True])
def test_teacher_gradient_on_request(impl, sizes, positions):
    student, teacher, target = make(sizes)
    teacher.requires_grad_()
    settings = {'reverse_weight': 0.3, 'forward_temperature': 2.0, 'reverse_temperature': 3.0}
    if positions:
        if impl == 'fused':
            return
        settings['softmax_axis'] = 'positions'
    loss = balanced_divergence(
        student, teacher, target, teacher_gradient=True, impl=impl, **settings
    ).loss
    actual = torch.autograd.grad(loss, (student, teacher))
    doubles = [z.detach().double().requires_grad_() for z in (student, teacher)]
    truth = balanced_divergence(
        *doubles, target, teacher_gradient=True, impl='reference', **settings
    ).loss
    expected = torch.autograd.grad(truth, doubles)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-7)
    # The teacher's alone, with a student that is fixed.
    loss = balanced_divergence(
        student.detach(), teacher, target, teacher_gradient=True, impl=impl, **settings
    ).loss
    assert torch.equal(torch.autograd.grad(loss, teacher)[0], actual[1])


@pytest.mark.parametrize('impl', IMPLS)
def test_autocast_passes_dtypes_through(impl):
    student, teacher, target = make('low', torch.bfloat16)
    outside = balanced_divergence(student, teacher, target, impl=impl)
    with torch.autocast(DEVICE, torch.bfloat16):
        inside = balanced_divergence(student, teacher, target, impl=impl)
        (gradient,) = torch.autograd.grad(inside.loss, student)
    assert torch.equal(inside.loss, outside.loss)
    assert inside.loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == 'cpu', reason='needs a CUDA device')
@pytest.mark.parametrize('sizes', SIZES)
def test_a_cuda_graph_replays_it(sizes):
    student, teacher, target = make(sizes)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            loss = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0).loss
            expected = torch.autograd.grad(loss, student)[0]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = balanced_divergence(student, teacher, target, cross_entropy_weight=1.0).loss
        gradient = torch.autograd.grad(loss, student)[0]
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(gradient, expected)
