"""`BalancedDivergenceLoss`: its settings reach the operation, and it anneals."""

import pytest
import torch
import torch._dynamo
from mmengine.logging import MessageHub
from mmseg.registry import MODELS

import balkd_seg  # noqa: F401
from balkd_seg.hooks.distill_schedule import Schedule
from balkd_seg.ops import balanced_divergence


def build(**settings):
    return MODELS.build({'type': 'BalancedDivergenceLoss', **settings})


def make_inputs():
    student, teacher = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 5, 6, 4)
    target = torch.randint(0, 5, (2, 12, 16))
    target[:, :4] = 7
    return student, teacher, target


@pytest.fixture
def progress():
    """Publish what a runner would, and take it back."""
    hub = MessageHub.get_current_instance()
    runtime = dict(hub.runtime_info)

    def publish(iteration, max_iters):
        hub.runtime_info.clear()
        if max_iters is not None:
            hub.update_info('iter', iteration)
            hub.update_info('max_iters', max_iters)

    yield publish
    hub.runtime_info.clear()
    hub.runtime_info.update(runtime)


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'forward_weight': 0.0, 'reverse_weight': 2.0, 'reverse_temperature': 3.0},
        {'forward_weight': 0.5, 'forward_temperature': 4.0, 'softmax_axis': 'positions'},
        {'ignore_index': 7, 'align_corners': True},
        {'resize': 'student'},
        {'impl': 'reference'},
        {'entropy_weighting': 'pixel', 'delta': 3.0, 'entropy_temperature': 2.0},
    ],
)
def test_settings_reach_the_operation(settings):
    inputs = make_inputs()
    actual = build(**settings, loss_weight=0.25)(*inputs)
    expected = balanced_divergence(*inputs, **settings)
    torch.testing.assert_close(actual.loss, 0.25 * expected.loss)
    assert all(torch.equal(a, b) for a, b in zip(actual[1:5], expected[1:5], strict=True))
    actual.loss.backward()
    assert inputs[0].grad.abs().max() > 0


def test_names():
    assert build().loss_name == 'loss_balkd'
    assert build(loss_name='loss_feature').loss_name == 'loss_feature'
    assert not build().state_dict()


@pytest.mark.parametrize(('iteration', 'share'), [(0, 1.0), (25, 0.75), (99, 0.01), (150, 0.0)])
def test_annealing_goes_from_forward_to_reverse(progress, iteration, share):
    progress(iteration, 100)
    inputs = make_inputs()
    result = build(anneal=True, forward_weight=2.0, reverse_weight=3.0)(*inputs)
    expected = share * 2 * result.forward + (1 - share) * 3 * result.reverse
    torch.testing.assert_close(result.loss.detach(), expected)


@pytest.mark.parametrize('anneal', [False, True])
@pytest.mark.skipif(
    getattr(torch._dynamo.config, 'specialize_float', True),
    reason='PyTorch before 2.6 takes every number for a constant',
)
@pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor:UserWarning')
def test_a_schedule_does_not_compile_anew(progress, anneal):
    """What changes is taken in twice: as a constant, then as what changes."""
    inputs, loss = make_inputs(), build(anneal=anneal)
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(lambda: loss(*inputs).loss, backend=counter, fullgraph=not anneal)
    for step in range(5):
        progress(step, 10)
        if not anneal:
            loss.temperature, loss.forward_weight, loss.loss_weight = 1 + step / 3, step / 2, 2.5
        torch.testing.assert_close(compiled(), loss(*inputs).loss)
    # PyTorch 2.6 takes the product of the two weights for a constant, and compiles at each anew
    if anneal or torch.__version__ >= '2.7':
        # also with a forward part of weight 0, which does not take part
        assert counter.frame_count <= 3


def test_two_schedules_anneal(progress):
    inputs, annealed, scheduled = make_inputs(), build(anneal=True), build()
    schedules = {
        name: Schedule('loss_balkd', name, [(0, start), (10, 1.0 - start)])
        for name, start in (('forward_weight', 1.0), ('reverse_weight', 0.0))
    }
    for step in (0, 3, 10):
        progress(step, 10)
        for name, schedule in schedules.items():
            setattr(scheduled, name, schedule.value(step))
        torch.testing.assert_close(scheduled(*inputs).loss, annealed(*inputs).loss)


def test_annealing_without_a_runner(progress):
    progress(None, None)
    with pytest.raises(ValueError, match=r"to hold 'iter' and 'max_iters'.* use anneal=False"):
        build(anneal=True)(*make_inputs())


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'loss_weight': 0}, '`loss_weight` to be finite and larger than 0, but got 0; remove'),
        ({'loss_weight': float('inf')}, '`loss_weight` .* but got inf'),
        ({'loss_name': 'kd'}, "`loss_name` to start with 'loss_', but got 'kd'"),
        ({'forward_weight': -1.0}, '`forward_weight` .* at least 0, but got -1.0'),
        ({'reverse_temperature': 0.0}, '`reverse_temperature` .* larger than 0, but got 0.0'),
        ({'resize': 'teacher'}, "`resize` to be one of .* but got 'teacher'"),
        ({'softmax_axis': 'x'}, "`softmax_axis` to be one of .* but got 'x'"),
        ({'anneal': True, 'reverse_weight': 0}, 'Expected both weights .* and reverse_weight=0'),
    ],
)
def test_bad_settings_are_refused_when_built(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_attributes_may_change_between_steps():
    """Which is what `DistillScheduleHook` does."""
    inputs = make_inputs()
    loss = build()
    loss.temperature, loss.loss_weight, loss.forward_weight = 3.0, 0.5, 0.0
    expected = balanced_divergence(*inputs, forward_weight=0.0, reverse_temperature=3.0)
    torch.testing.assert_close(loss(*inputs).loss, 0.5 * expected.loss)
    assert loss.is_active
    loss.reverse_weight = 0.0
    assert not loss.is_active
    loss.reverse_weight, loss.loss_weight = 1.0, 0.0
    assert not loss.is_active
