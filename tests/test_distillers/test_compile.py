"""mmengine's `compile=`, `torch.compile` of `train_step`, gives what plain training gives."""

import copy
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from balkd_seg.distillers.taps import record_taps
from balkd_seg.hooks import DistillTelemetryHook

# PyTorch's own, of tensors between compiled parts
pytestmark = [
    pytest.mark.filterwarnings('ignore:The .grad attribute of a Tensor that is not a leaf'),
    pytest.mark.filterwarnings('ignore:Converting a tensor with requires_grad=True to a scalar'),
]
SUPPORTED = pytest.mark.skipif(
    not hasattr(torch.compiler, 'set_stance'), reason='compile= is supported from PyTorch 2.6 on'
)
FEATURES = dict(
    type='FeatureMimickingLoss', student_tap='backbone.layer2', teacher_tap='backbone.layer2'
)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """Keep PyTorch's trace, which pytest would collect, from taking longer than the compiler."""
    monkeypatch.setattr(logging.getLogger('torch.__trace'), 'disabled', True)
    torch._dynamo.reset()


@pytest.fixture
def make_small(make_segmentor, make_distiller):
    """Return a function that builds a distiller of two stages each, quick to compile."""

    def make(distill):
        model = make_segmentor(auxiliary=False)
        model['backbone'].update(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))
        head = dict(type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1)
        kept = {key: model['decode_head'][key] for key in ('num_classes', 'norm_cfg')}
        model['decode_head'] = dict(kept, concat_input=False, dropout_ratio=0, **head)
        distiller = make_distiller(student=model, teacher=model, distill=distill)
        distiller.init_weights()
        return distiller.train()

    return make


def train(distiller, make_batch, work, compiled, steps=3):
    """Train with a feature term from the second step on, watched in the third; return the log."""
    optimizer = build_optim_wrapper(distiller, dict(optimizer=dict(type='SGD', lr=0.05)))
    work.mkdir()
    runner, log = SimpleNamespace(model=distiller, work_dir=str(work), iter=0), []
    if compiled:
        distiller.train_step = torch.compile(distiller.train_step, backend='eager')
    hook = DistillTelemetryHook(interval=3)
    hook.before_train(runner)
    for index in range(steps):
        runner.iter = index
        distiller.distill_terms[1].loss.loss_weight = 0.5 * index
        inputs, samples = make_batch(seed=index)
        data = dict(inputs=list(inputs.mul(50).add(100)), data_samples=samples)
        hook.before_train_iter(runner, index, data)
        log.append({k: float(v) for k, v in distiller.train_step(data, optimizer).items()})
        hook.after_train_iter(runner, index, data)
    return log, [json.loads(x) for x in (work / 'telemetry.jsonl').read_text().splitlines()]


@pytest.mark.slow
@SUPPORTED
def test_terms_that_start_later_features_and_telemetry(make_small, make_batch, tmp_path):
    plain = make_small([dict(type='PixelwiseKLLoss'), FEATURES])
    twin = copy.deepcopy(plain)
    log, lines = train(plain, make_batch, tmp_path / 'plain', compiled=False)
    compiled_log, compiled_lines = train(twin, make_batch, tmp_path / 'compiled', compiled=True)
    assert 'distill.loss_fitnet' not in log[0]
    assert [x['step'] for x in lines] == [3, 3]
    for ours, theirs in (*zip(compiled_log, log, strict=True), (compiled_lines[0], lines[0])):
        names = {k: v for k, v in theirs.items() if isinstance(v, float)}
        assert {k: ours[k] for k in names} == pytest.approx(names, rel=1e-4, abs=1e-5)
    weights = dict(plain.named_parameters())
    for name, weight in twin.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-5, msg=name)


class Small(nn.Module):
    """A stage with an activation in place, and one more layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True))
        self.decode_head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.decode_head(self.stage(self.conv(x)))


@SUPPORTED
@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_an_output_that_is_overwritten_is_refused_and_another_is_not(backend):
    model, images = Small(), torch.randn(2, 3, 4, 4)
    forward = torch.compile(model, backend=backend)
    for _ in range(2):
        with record_taps(model, ['stage', 'conv'], 'student') as outputs:
            forward(images)
        torch.testing.assert_close(outputs['stage'], model.stage(model.conv(images)))
    torch._dynamo.reset()
    with (
        pytest.raises(ValueError, match=r'tap `stage\.0` of the student .* overwrites it in place'),
        record_taps(model, ['stage.0'], 'student'),
    ):
        forward(images)


def test_a_pytorch_that_leaves_hooks_out_of_compiled_code_is_named(monkeypatch):
    monkeypatch.delattr(torch.compiler, 'set_stance', raising=False)
    with (
        pytest.raises(ValueError, match=r'was not called\. .* Beside compile= .* PyTorch 2\.6'),
        record_taps(Small(), ['stage'], 'student'),
    ):
        pass


def test_terms_at_rest_are_looked_at_so_that_compiled_code_knows_their_hooks(
    make_small, make_batch, monkeypatch
):
    distiller = make_small([dict(type='PixelwiseKLLoss'), FEATURES])
    distiller.distill_terms[1].loss.loss_weight = 0.0
    hooks = {}
    for name, network in (('s', distiller.student), ('t', distiller.teacher.network)):
        network.backbone.layer2.register_forward_hook(
            lambda module, *_, name=name: hooks.update({name: len(module._forward_hooks)})
        )
    losses = distiller.loss(*make_batch())
    assert hooks == {'s': 2, 't': 2}
    assert 'distill.loss_fitnet' not in losses


def test_telemetry_beside_compile_needs_a_pytorch_that_can_leave_it_out(
    make_small, monkeypatch, tmp_path
):
    distiller = make_small([dict(type='PixelwiseKLLoss')])
    runner = SimpleNamespace(model=distiller, work_dir=str(tmp_path), iter=0)
    monkeypatch.delattr(torch.compiler, 'set_stance', raising=False)
    DistillTelemetryHook().before_train(runner)
    distiller.train_step = torch.compile(distiller.train_step, backend='eager')
    with pytest.raises(ValueError, match=r'PyTorch 2\.6 or newer .*beside compile=.*but got 2'):
        DistillTelemetryHook().before_train(runner)
