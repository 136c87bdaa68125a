"""Kernels that were never run here are held to the chunked implementation, and what follows.

In Triton's interpreter, which otherwise nobody doubts, with kernels that are made wrong.
"""

import sys
import threading
import time
import warnings

import pytest
import torch

from balkd_seg.ops import _operator, _trust, _types, balanced_divergence
from balkd_seg.ops._versions import why_no_triton

if why_no_triton():
    pytest.skip(why_no_triton(), allow_module_level=True)

from balkd_seg.ops import _fused, _fused_upsample

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# (student, teacher, label)
SIZES = {'full': ((4, 5), (4, 5), (4, 5)), 'low': ((2, 3), (2, 3), (4, 6))}
# Module, kernel and position of what it writes: the sums, and the student's gradient or its parts.
KERNELS = {'full': (_fused, 'full_resolution', 7, 5), 'low': (_fused_upsample, 'upsampled', 6, 5)}


class Faulty:
    """Stands for a kernel: counts its launches and spoils what it writes."""

    def __init__(self, kernel, fault, outputs):
        self.kernel, self.fault, self.outputs, self.launches = kernel, fault, outputs, 0

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.launches += 1
            if self.fault == 'raises':
                raise RuntimeError('out of resource: shared memory,\nRequired: 1, Limit: 0')
            if self.fault == 'no memory':
                raise torch.cuda.OutOfMemoryError('no memory')
            self.kernel[grid](*args, **kwargs)
            if self.fault == 'NaN':
                args[self.outputs[1]][0, ..., 0] = torch.nan
            if self.fault == 'wrong sums':
                args[self.outputs[0]].view(-1)[0] *= 1.5
            if self.fault == 'wrong gradient':
                args[self.outputs[1]].mul_(-1)

        return launch


@pytest.fixture(autouse=True)
def earned(monkeypatch):
    """Doubt every kernel, with nothing found yet, and let 'auto' consider them on any device."""
    monkeypatch.setattr(_trust, 'must_be_earned', lambda device: True)
    monkeypatch.setattr(_trust, '_found', {})
    monkeypatch.setattr(_trust, '_warned', set())
    module = sys.modules['balkd_seg.ops.balanced_divergence']
    monkeypatch.setattr(module, 'select_implementation', lambda impl, *_: impl)


@pytest.fixture
def checks(monkeypatch):
    """Return the list of forms that were checked."""
    seen, find = [], _trust.find_fault

    def noted(form, problem):
        seen.append(form)
        return find(form, problem)

    monkeypatch.setattr(_trust, 'find_fault', noted)
    return seen


@pytest.fixture
def spoil(monkeypatch):
    """Return a function that puts a faulty kernel in place of the right one."""

    def put(sizes, fault):
        module, name, *outputs = KERNELS[sizes]
        faulty = Faulty(getattr(module, name), fault, outputs)
        monkeypatch.setattr(module, name, faulty)
        return faulty

    return put


def make(sizes='full', dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(1, 3, *z, generator=generator).to(DEVICE, dtype) for z in SIZES[sizes][:2]
    )
    target = torch.randint(0, 3, (1, *SIZES[sizes][2]), generator=generator)
    target[0, 0, :3] = 255
    return student.requires_grad_(), teacher, target.to(DEVICE)


def run(inputs, impl='auto', **settings):
    result = balanced_divergence(*inputs, cross_entropy_weight=0.5, impl=impl, **settings)
    return result.loss.detach(), torch.autograd.grad(3 * result.loss, inputs[0])[0]


FAULTS = {
    'raises': 'RuntimeError: out of resource: shared memory, Required: 1, Limit: 0',
    'NaN': 'results differ: gradient of the student by nan of the largest',
    'wrong sums': 'results differ: sums by',
    'wrong gradient': 'results differ: gradient of the student by 2 of the largest',
}


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('fault', FAULTS)
def test_a_faulty_kernel_is_met_once_and_the_chunked_path_taken(sizes, fault, spoil, checks):
    faulty, inputs = spoil(sizes, fault), make(sizes)
    with pytest.warns(UserWarning, match='fused kernels are wrong here') as caught:
        actual = run(inputs)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert FAULTS[fault] in text
    for part in (DEVICE, f'torch {torch.__version__}', 'Triton 3', '3 classes', 'labels int64'):
        assert part in text
    torch.testing.assert_close(actual, run(inputs, 'chunked'), rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        run(inputs)
    assert faulty.launches == 1
    assert len(checks) == 1


def test_an_error_that_comes_after_the_launch_is_the_kernels(monkeypatch):
    """As CUDA tells of a wrong address: to whoever waits next."""

    class Late:
        def sum(self):
            raise RuntimeError('CUDA error: an illegal memory access was encountered')

    solution, right = _types.Solution(Late(), None, None), _trust.compute
    late = lambda name, *args: solution if name == 'fused' else right(name, *args)  # noqa: E731
    monkeypatch.setattr(_trust, 'compute', late)
    inputs = make()
    with pytest.warns(UserWarning, match=r'wrong here \(RuntimeError: CUDA error: an illegal'):
        actual = run(inputs)
    torch.testing.assert_close(actual, run(inputs, 'chunked'), rtol=0, atol=0)


@pytest.mark.parametrize('fault', ['raises', 'wrong sums'])
def test_who_asks_for_the_kernels_is_told(fault, spoil):
    faulty, inputs = spoil('full', fault), make()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"impl='fused', but fused .* use impl='auto'"):
            run(inputs, 'fused')
    assert faulty.launches == 1
    with pytest.warns(UserWarning, match='fused kernels are wrong'):  # to nobody before
        run(inputs)


@pytest.mark.parametrize('impl', ['auto', 'fused'])
def test_right_kernels_are_checked_once_a_form(impl, spoil, checks):
    kernel, inputs = spoil('full', None), make()
    expected = run(inputs, 'chunked')
    for _ in range(3):
        torch.testing.assert_close(run(inputs, impl), expected)
    assert (len(checks), kernel.launches) == (1, 4)
    run(inputs, impl, forward_temperature=1.5)
    run(inputs, impl, forward_temperature=2.5)  # which is that form again
    run(make(dtype=torch.bfloat16), impl)
    student, teacher, target = inputs
    run((student, teacher.contiguous(memory_format=torch.channels_last), target), impl)
    run((student, teacher, target.byte()), impl)
    assert len(checks) == len(set(checks)) == 5
    assert set(_trust._found.values()) == {''}


@pytest.mark.parametrize('weighting', ['image', 'pixel'])
def test_every_kernel_of_a_weighting_is_checked(weighting, spoil, checks):
    """That by image asks for entropies first, in a kernel of its own."""
    kernel, inputs = spoil('full', None), make()
    actual = run(inputs, entropy_weighting=weighting)
    torch.testing.assert_close(actual, run(inputs, 'chunked', entropy_weighting=weighting))
    assert len(checks) == 1
    assert kernel.launches == 2 * (2 if weighting == 'image' else 1)


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_compiled_graphs_fall_back_while_they_run(sizes, dtype, spoil, checks):
    """What is announced to a compiler is what comes, in dtype and layout, whoever computes it."""
    spoil(sizes, 'raises')
    inputs = make(sizes, dtype)
    student = inputs[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()

    def step(student):
        result = balanced_divergence(1 * student, *inputs[1:], cross_entropy_weight=0.5)
        return 3 * result.loss

    torch.compiler.reset()
    graph = torch.compile(step, fullgraph=True, backend='aot_eager')

    def train(student):
        loss = graph(student)
        return loss, torch.autograd.grad(loss, student)[0]

    with pytest.warns(UserWarning, match='fused kernels are wrong here') as caught:
        loss, gradient = train(student)
    full_half = sizes == 'full' and dtype == torch.float16  # computed again in backward
    assert len(checks) == len(caught) == (2 if full_half else 1)
    expected = run(inputs, 'chunked')
    torch.testing.assert_close(loss, 3 * expected[0])
    torch.testing.assert_close(gradient, expected[1])


def test_nothing_is_checked_while_a_graph_is_traced(spoil, checks):
    spoil('full', 'raises')
    student, teacher, target = make()
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(z) for z in (student, teacher, target)]
        loss = balanced_divergence(*fakes, cross_entropy_weight=0.5).loss
        (gradient,) = torch.autograd.grad(loss, fakes[0])
    assert (gradient.shape, gradient.dtype) == (student.shape, student.dtype)
    assert checks == []


def test_a_capture_needs_a_form_that_was_checked_before(checks, monkeypatch):
    inputs = make()
    with monkeypatch.context() as patch:
        patch.setattr(_trust, 'is_capturing', lambda device: True)
        for impl in ('auto', 'fused'):
            with pytest.raises(RuntimeError, match=r'before a CUDA graph .* run the loss once'):
                run(inputs, impl)
    assert checks == []
    expected = run(inputs)
    monkeypatch.setattr(_trust, 'is_capturing', lambda device: True)
    assert torch.equal(run(inputs)[0], expected[0])
    assert len(checks) == 1


def test_the_capture_is_that_of_the_tensors_own_device(monkeypatch):
    entered = []

    class On:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            entered.append(self.device)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.cuda, 'device', On)
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: len(entered) == 1)
    assert _trust.is_capturing(torch.device('cuda', 1))
    assert entered == [torch.device('cuda', 1)]
    assert not _trust.is_capturing(torch.device('cpu'))


def test_out_of_memory_says_nothing_about_a_kernel(spoil, checks):
    inputs = make()
    spoil('full', 'no memory')
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(inputs)
    assert _trust._found == {}


def test_a_check_leaves_no_trace(spoil, checks):
    """Neither in random numbers nor in what the caller has set."""
    spoil('low', None)
    state = torch.get_rng_state()
    inputs = make('low', torch.bfloat16)
    expected = run(inputs, 'chunked')
    try:
        torch.set_default_device('meta')
        torch.set_default_dtype(torch.float64)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = balanced_divergence(*inputs, cross_entropy_weight=0.5).loss
            assert torch.is_autocast_enabled(DEVICE)
        assert torch.is_grad_enabled()
        with torch.inference_mode():
            balanced_divergence(*inputs, cross_entropy_weight=0.5, reverse_temperature=3.0)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert len(checks) == 2
    assert set(_trust._found.values()) == {''}
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(loss.detach(), expected[0])


def test_threads_that_meet_a_form_at_once_check_it_once():
    begun, results = [], []

    def find():
        begun.append(threading.get_ident())
        time.sleep(0.05)
        return ''

    def meet():
        results.append(_trust._settled('form', torch.device('cpu'), find, True))

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert len(begun) == 1


class OnCuda(torch.Tensor):
    """Says that it is where Triton kernels would run."""

    is_cuda = True


@pytest.mark.parametrize('fault', [None, 'raises', 'wrong sums'])
def test_a_gradient_is_scaled_by_a_kernel_that_is_right(fault, monkeypatch):
    scaling = Faulty(_fused.scale, fault, (0, 0))
    monkeypatch.setattr(_fused, 'scale', scaling)
    gradient, factor = torch.arange(6.0, device=DEVICE), torch.tensor(0.3, device=DEVICE)

    def scaled(impl):
        ours = gradient.clone().as_subclass(OnCuda)
        return _operator.scaled(ours, factor, ours.dtype, True, impl).as_subclass(torch.Tensor)

    if fault is None:
        assert torch.equal(scaled('fused'), gradient * factor)
        assert scaling.launches == 2
        return
    with pytest.warns(UserWarning, match=r"wrong here .* form: \('scaling'"):
        assert torch.equal(scaled('auto'), gradient * factor)
    assert torch.equal(scaled('auto'), gradient * factor)
    assert scaling.launches == 1
    with pytest.raises(RuntimeError, match="impl='fused', but fused kernels are wrong here"):
        scaled('fused')


def test_a_capture_scales_without_a_kernel_that_was_not_checked(monkeypatch):
    monkeypatch.setattr(_trust, 'is_capturing', lambda device: True)
    assert not _trust.may_scale(torch.ones(3), True)
    assert _trust._found == {}


def test_a_card_is_described_by_all_that_a_kernel_depends_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'H200')
    monkeypatch.setattr(_trust.Path, 'read_text', lambda self: 'NVRM version: Module  550.54.15  x')
    text = _trust.describe(torch.device('cuda', 1))
    assert text.startswith(f'H200 (sm_90, cuda:1), torch {torch.__version__}, Triton 3')
    assert text.endswith(f'CUDA {torch.version.cuda}, driver 550.54.15')
    monkeypatch.setitem(sys.modules, 'triton', None)

    def gone(path):
        raise FileNotFoundError

    monkeypatch.setattr(_trust.Path, 'read_text', gone)
    assert 'Triton ModuleNotFoundError' in _trust.describe(torch.device('cuda', 1))
    assert _trust.describe(torch.device('cuda', 1)).endswith('driver unknown')
