"""Where logits are taken: what a head's `forward` returns, in training and in evaluation."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.distillers.taps import Listener, find_tap, logits_path, record_taps
from balkd_seg.hooks.distill_telemetry import Watch, lessons_of
from balkd_seg.ops import balanced_divergence

# mmseg's K-Net names an argument of mmcv's FFN as it used to be called
pytestmark = pytest.mark.filterwarnings('ignore:"dropout" is deprecated in `FFN')
CLASSES = 5
NORM = dict(type='BN', requires_grad=True)
COMMON = dict(channels=8, num_classes=CLASSES, norm_cfg=NORM, dropout_ratio=0.0)
GENERATE = dict(type='FCNHead', in_channels=64, in_index=3, num_convs=1, **COMMON)
UPDATE = dict(
    type='KernelUpdateHead',
    num_classes=CLASSES,
    num_ffn_fcs=2,
    num_heads=2,
    num_mask_fcs=1,
    feedforward_channels=16,
    in_channels=8,
    out_channels=8,
    dropout=0.0,
    conv_kernel_size=1,
    ffn_act_cfg=dict(type='ReLU', inplace=True),
    with_ffn=True,
    feat_transform_cfg=dict(conv_cfg=dict(type='Conv2d'), act_cfg=None),
    kernel_updator_cfg=dict(
        type='KernelUpdator', in_channels=8, feat_channels=8, out_channels=8,
        act_cfg=dict(type='ReLU', inplace=True), norm_cfg=dict(type='LN'),
    ),
)  # fmt: skip
KNET = dict(
    type='IterativeDecodeHead', num_stages=2, kernel_update_head=[UPDATE, UPDATE],
    kernel_generate_head=GENERATE,
)  # fmt: skip
SEGMENTER = dict(
    type='SegmenterMaskTransformerHead', in_channels=64, in_index=3, channels=16, num_layers=1,
    num_heads=2, embed_dims=16, num_classes=CLASSES, dropout_ratio=0.0, drop_path_rate=0.0,
)  # fmt: skip
TWO = [dict(type='OhemCrossEntropy')] * 2
PID = [
    dict(type='CrossEntropyLoss'), dict(type='OhemCrossEntropy'), dict(type='BoundaryLoss'),
    dict(type='OhemCrossEntropy'),
]  # fmt: skip
# the head, and the channels of what it gets in training
HEADS = {
    'DAHead': (dict(pam_channels=4, in_channels=16, in_index=0), [16]),
    'EncHead': (dict(num_codes=4, in_channels=[16, 16], in_index=(0, 1)), [16, 16]),
    'DDRHead': (dict(in_channels=16, loss_decode=TWO), [8, 16]),
    'PIDHead': (dict(in_channels=16, loss_decode=PID), [8, 16, 8]),
}


@pytest.fixture
def with_head(make_segmentor):
    """Return a function that gives a narrow network another head."""

    def make(head, **settings):
        model = make_segmentor(auxiliary=False, **settings)
        return dict(model, decode_head=copy.deepcopy(head))

    return make


def heard(head, run):
    """Return what a listener at a head got while `run` ran, and leave no trace of it."""
    got = []
    listener = Listener(head, lambda _, logits: got.append(logits))
    try:
        run()
    finally:
        listener.remove()
    assert 'forward' not in vars(head)
    return got


@pytest.mark.parametrize('name', HEADS)
def test_of_several_outputs_the_one_that_the_head_predicts_from(name, make_batch):
    settings, channels = HEADS[name]
    head = MODELS.build(dict(type=name, **COMMON, **settings))
    _, samples = make_batch()
    for sample in samples:
        sample.gt_edge_map = PixelData(data=torch.zeros(1, 32, 48))
    features = [torch.randn(2, c, 8, 12) for c in channels]
    predicted = []
    head.conv_seg.register_forward_hook(lambda _, __, output: predicted.append(output))
    (logits,) = heard(head, lambda: head.loss(features, samples, {}))
    (expected,) = predicted
    assert logits is expected
    assert logits.shape == (2, CLASSES, 8, 12)


def test_of_knet_the_last_stage(make_batch, with_head):
    network, seen = MODELS.build(with_head(KNET)), []
    network.decode_head.kernel_update_head[-1].register_forward_hook(
        lambda _, __, output: seen.append(output[0])
    )
    inputs, samples = make_batch()
    (logits,) = heard(network.decode_head, lambda: network.loss(inputs, samples))
    assert logits is seen[-1]
    network.eval()
    (logits,) = heard(network.decode_head, lambda: network(inputs, mode='tensor'))
    assert logits is seen[-1]


@pytest.mark.parametrize('kind', ['knet', 'segmenter'])
@pytest.mark.parametrize('fuse', [False, True])
def test_heads_without_conv_seg_teach_and_learn(kind, fuse, with_head, make_batch, make_distiller):
    config = with_head({'knet': KNET, 'segmenter': SEGMENTER}[kind])
    distiller = make_distiller(student=config, teacher=config, fuse_task_loss=fuse)
    distiller.build_teacher()
    inputs, samples = make_batch()
    losses = distiller.loss(inputs, samples)
    logits = distiller.student(inputs, mode='tensor')
    logits = logits[-1] if kind == 'knet' else logits
    taught = distiller.teacher.network(inputs, mode='tensor')
    target = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = balanced_divergence(logits, taught, target, impl='reference').loss
    torch.testing.assert_close(losses['distill.loss_balkd'], expected)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    head = distiller.decode_head
    last = head.kernel_update_head[-1].fc_mask if kind == 'knet' else head.classes_proj
    assert last.weight.grad.abs().sum() > 0


def test_peers_of_knet_and_segmenter(with_head, make_batch):
    distiller = MODELS.build(
        dict(
            type='MutualDistiller',
            student=with_head(KNET),
            peers=dict(teacher=with_head(SEGMENTER)),
            distill=[dict(type='PixelwiseKLLoss', learner=x) for x in ('student', 'teacher')],
        )
    )
    losses = distiller.loss(*make_batch())
    assert {'distill.loss_kd', 'teacher.distill.loss_kd', 'decode.loss_ce.s2'} <= set(losses)


def test_telemetry_hears_the_logits_of_knet(with_head, make_batch, make_distiller):
    config = with_head(KNET)
    distiller = make_distiller(student=config, teacher=config)
    distiller.build_teacher()
    watch = Watch(distiller, lessons_of(distiller))
    inputs, samples = make_batch()
    losses = distiller(inputs=inputs, data_samples=samples, mode='loss')
    (line,) = watch.close()
    assert line['loss'] == pytest.approx(losses['distill.loss_balkd'].item())
    assert line['gradient'] > 0
    assert line['task_gradient'] > 0
    assert not any('forward' in vars(module) for module in distiller.modules())
    assert not any('forward' in vars(module) for module in distiller.teacher.network.modules())


class TwoMaps(FCNHead):
    """A head of somebody's own, which gives its features beside its logits."""

    extra = 7

    def forward(self, inputs):
        logits = super().forward(inputs)
        return torch.zeros(2, self.extra, 4, 4), logits

    def loss_by_feat(self, seg_logits, batch_data_samples):
        return super().loss_by_feat(seg_logits[1], batch_data_samples)


def test_a_head_of_ones_own_with_several_outputs(make_batch):
    head = TwoMaps(in_channels=4, in_index=0, num_convs=1, **COMMON)
    run = lambda: head.loss([torch.randn(2, 4, 8, 12)], make_batch()[1], {})  # noqa: E731
    (logits,) = heard(head, run)
    assert logits.shape == (2, CLASSES, 8, 12)
    head.extra = CLASSES
    with pytest.raises(ValueError, match=r'TwoMaps to give 5 logits.*2 outputs of which 2 could'):
        heard(head, run)


def test_the_auxiliary_head_is_a_tap_as_well(make_distiller, make_batch):
    taps = dict(student_tap='auxiliary_head', teacher_tap='decode_head')
    distiller = make_distiller(distill=[dict(type='PixelwiseKLLoss', **taps)])
    distiller.loss(*make_batch())['distill.loss_kd'].backward()
    assert distiller.auxiliary_head.conv_seg.weight.grad.abs().sum() > 0
    assert distiller.decode_head.conv_seg.weight.grad is None


def test_several_listeners_leave_in_any_order(make_segmentor, make_batch):
    network, got = MODELS.build(make_segmentor()), []
    listeners = [Listener(network.decode_head, lambda *_, i=i: got.append(i)) for i in range(3)]
    inputs, samples = make_batch()
    for left in ([0, 1, 2], [1, 2], [1]):
        network.loss(inputs, samples)
        assert got == left
        got.clear()
        listeners[{3: 0, 2: 2, 1: 1}[len(left)]].remove()
    assert 'forward' not in vars(network.decode_head)


def test_a_forward_of_the_instance_is_put_back(make_segmentor):
    head = MODELS.build(make_segmentor()).decode_head
    head.forward = own = lambda inputs: inputs
    listener = Listener(head, lambda *_: None)
    assert head.forward(3) == 3
    listener.remove()
    assert head.forward is own


def test_nothing_is_left_where_the_network_raises(make_segmentor, make_batch):
    network = MODELS.build(make_segmentor())
    paths = [logits_path(network), 'backbone.layer4']

    def run(paths, inputs):
        with record_taps(network, paths, 'student'):
            network.loss(inputs, make_batch()[1])

    with pytest.raises(RuntimeError, match='channels'):
        run(paths, torch.zeros(2, 4, 32, 48))
    with pytest.raises(ValueError, match='has no `missing`'):
        run([*paths, 'missing'], torch.zeros(2, 3, 32, 48))
    assert not any(module._forward_hooks for module in network.modules())
    assert not any('forward' in vars(module) for module in network.modules())
    copy.deepcopy(network)


def test_what_is_no_module_of_the_model_is_refused():
    model = nn.Sequential(nn.ReLU())
    assert find_tap(model, '0', 'student') is model[0]
    with pytest.raises(ValueError, match=r'tap `0\.conv` .* but `0` has no `conv`. It has: no mod'):
        find_tap(model, '0.conv', 'student')
