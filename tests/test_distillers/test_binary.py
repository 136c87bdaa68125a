"""One sigmoid channel z is distilled as the two classes (0, z), on either side."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

from balkd_seg.distillers import binary
from balkd_seg.distillers.taps import logits_head

SIGMOID = dict(
    num_classes=2, out_channels=1, threshold=0.3,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
)  # fmt: skip
FEATURES = dict(student_tap='backbone.layer4', teacher_tap='backbone.layer4')
LOSSES = [
    dict(type='BalancedDivergenceLoss', entropy_weighting='image'),
    dict(type='BalancedDivergenceLoss', impl='reference', resize='student', loss_name='loss_ref'),
    dict(type='PixelwiseKLLoss', temperature=2.0),
    dict(type='ReverseKLLoss'),
    dict(type='ChannelwiseKLLoss'),
    dict(type='DecoupledKLLoss'),
    dict(type='BalancedLoss', loss=dict(type='DecoupledKLLoss', loss_name='loss_in')),
    dict(type='JensenShannonLoss'),
    dict(type='ClassCorrelationLoss'),
    dict(type='AdaptiveKLLoss'),
    dict(type='CrossImageRelationLoss'),
    dict(type='FeatureMimickingLoss'),
    dict(type='AttentionTransferLoss', **FEATURES),
]


def with_head(config, **head):
    """Return a config without randomness in the step and with another head."""
    config['decode_head'].update(dropout_ratio=0, **copy.deepcopy(head))
    return config


def as_two_channels(state):
    """Return the weights of a sigmoid network as those of the softmax network that equals it."""
    grown = dict(state)
    for name in ('weight', 'bias'):
        one = state[f'decode_head.conv_seg.{name}']
        grown[f'decode_head.conv_seg.{name}'] = torch.cat((torch.zeros_like(one), one))
    return grown


@pytest.fixture
def make_pair(make_segmentor, tmp_path):
    """Return a function that builds a distiller of equal weights, whatever its channels."""

    def make(student_channels, teacher_channels, distill, kind='OfflineDistiller', **settings):
        networks = {}
        for name, depth, channels in (
            ('student', 18, student_channels),
            ('teacher', 34, teacher_channels),
        ):
            base = make_segmentor(depth=depth, auxiliary=False)
            one = with_head(copy.deepcopy(base), **SIGMOID)
            torch.manual_seed(depth)
            network = MODELS.build(copy.deepcopy(one))
            torch.nn.init.normal_(network.decode_head.conv_seg.weight, std=0.5)
            state = network.state_dict()
            config = one if channels == 1 else with_head(base, num_classes=2)
            state = state if channels == 1 else as_two_channels(state)
            torch.save(dict(state_dict=state), tmp_path / f'{name}.pth')
            networks[name] = (config, state)
        (student, weights), (teacher, _) = networks['student'], networks['teacher']
        teacher = dict(teacher, checkpoint=str(tmp_path / 'teacher.pth'))
        others = dict(peers=dict(teacher=teacher))
        if kind == 'OfflineDistiller':
            others = dict(teacher=teacher)
        distiller = MODELS.build(
            dict(type=kind, student=student, distill=copy.deepcopy(distill), **others, **settings)
        )
        distiller.init_weights()
        distiller.load_state_dict(weights)
        return distiller.train()

    return make


def step(distiller, batch):
    """Return the log, and the gradient of the weight that makes z."""
    losses = distiller.loss(*batch)
    sum(value.sum() for name, value in losses.items() if 'loss' in name).backward()
    networks = distiller.networks() if hasattr(distiller, 'networks') else {'': distiller.student}
    gradients = {n: logits_head(x).conv_seg.weight.grad[-1] for n, x in networks.items()}
    return losses, gradients


def assert_equal(one, two):
    assert list(one[0]) == list(two[0])
    for name, value in two[0].items():
        if not name.endswith('acc_seg'):  # mmseg's is the share of class 0 with one channel
            torch.testing.assert_close(one[0][name], value, rtol=1e-4, atol=1e-5, msg=name)
    for name, gradient in two[1].items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(one[1][name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('channels', [(1, 1), (1, 2), (2, 1)])
def test_every_loss_sees_two_classes(make_pair, make_batch, channels):
    batch = make_batch(num_classes=2)
    one, two = (step(make_pair(*c, LOSSES), batch) for c in (channels, (2, 2)))
    assert len([name for name in one[0] if name.startswith('distill.loss_')]) == len(LOSSES)
    # the gradient of channel 0 goes nowhere with one channel, so that z's is that of channel 1
    assert_equal(one, two)


def test_conv_seg_by_name_is_the_logits_too(make_pair, make_batch):
    taps = dict(student_tap='decode_head.conv_seg', teacher_tap='decode_head.conv_seg')
    batch = make_batch(num_classes=2)
    pair = [make_pair(1, 1, [dict(type='PixelwiseKLLoss', **entry)]) for entry in (taps, {})]
    assert_equal(*(step(distiller, batch) for distiller in pair))


@pytest.mark.parametrize('tap', ['auxiliary_head', 'auxiliary_head.conv_seg'])
def test_another_head_of_one_channel_is_two_classes_too(make_segmentor, make_batch, tap):
    network, other = with_head(make_segmentor(), **SIGMOID), make_segmentor(num_classes=2)
    network['auxiliary_head'].update(dropout_ratio=0, **copy.deepcopy(SIGMOID))
    other['auxiliary_head'].update(dropout_ratio=0)
    entry = dict(type='PixelwiseKLLoss', student_tap=tap)
    distill = [dict(entry, teacher_tap=tap), dict(entry, loss_name='loss_of_main')]
    distiller = MODELS.build(
        dict(
            type='MutualDistiller', student=network, distill=distill,
            peers=dict(teacher=with_head(other)),
        )
    )  # fmt: skip
    inputs, samples = make_batch(num_classes=2)
    losses = distiller.loss(inputs, samples)
    teacher = distiller.peers.network('teacher')
    with torch.no_grad():
        z = distiller.auxiliary_head(distiller.extract_feat(inputs))
        features = teacher.extract_feat(inputs)
        target = distiller.labels_of(samples)
        for term, head in zip(
            distiller.distill_terms, (teacher.auxiliary_head, teacher.decode_head), strict=True
        ):
            expected = term.loss(torch.cat((torch.zeros_like(z), z), 1), head(features), target)
            torch.testing.assert_close(losses[f'distill.{term.loss_name}'], expected.loss)


@pytest.mark.parametrize('channels', [(1, 1), (1, 2), (2, 1)])
def test_both_networks_train(make_pair, make_batch, channels):
    distill = [
        dict(type='BalancedDivergenceLoss'),
        dict(type='PixelwiseKLLoss', learner='teacher'),
    ]
    batch = make_batch(num_classes=2)
    one, two = (
        step(make_pair(*c, distill, kind='MutualDistiller'), batch) for c in (channels, (2, 2))
    )
    assert_equal(one, two)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('channels', [(1, 1), (1, 2)])
def test_fused_with_the_sigmoid_cross_entropy(
    make_pair, make_batch, monkeypatch, channels, avg_non_ignore
):
    criterion = dict(SIGMOID['loss_decode'], avg_non_ignore=avg_non_ignore)
    monkeypatch.setitem(SIGMOID, 'loss_decode', criterion)
    batch = make_batch(num_classes=2)
    distill = [dict(type='BalancedDivergenceLoss', reverse_weight=0.5)]
    pair = [make_pair(*channels, distill, fuse_task_loss=fused) for fused in (False, True)]
    assert pair[1].fused_term is not None
    separate, fused = (step(distiller, batch) for distiller in pair)
    assert_equal(fused, separate)
    distiller = pair[1]
    with torch.no_grad():
        logits = distiller.student._forward(batch[0])
        up = F.interpolate(logits, batch[0].shape[2:], mode='bilinear')[:, 0]
    target = distiller.labels_of(batch[1])
    right = ((up > 0) == (target == 1))[target != 255].float().mean()
    torch.testing.assert_close(fused[0]['decode.acc_seg'], 100 * right)


def test_the_log_says_why_a_class_weight_is_not_fused(make_pair, monkeypatch):
    messages = []
    monkeypatch.setattr(
        'balkd_seg.distillers.fused_task.print_log', lambda text, **_: messages.append(text)
    )
    monkeypatch.setitem(SIGMOID, 'loss_decode', dict(SIGMOID['loss_decode'], class_weight=[2.0]))
    distill = [dict(type='BalancedDivergenceLoss')]
    assert make_pair(1, 1, distill, fuse_task_loss=True).fused_term is None
    assert 'one sigmoid channel has a class_weight' in messages[0]


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (dict(num_classes=1), r'at least 2 classes, but got num_classes=1.*out_channels=1'),
        (
            dict(num_classes=2, out_channels=1, threshold=0.5),
            r'sigmoid losses .*student.* CrossEntropyLoss with use_sigmoid=False.*use_sigmoid=True',
        ),
    ],
)
def test_what_cannot_tell_two_classes_apart_is_refused_when_built(
    make_distiller, make_segmentor, head, message
):
    student = with_head(make_segmentor(auxiliary=False), **head)
    with pytest.raises(ValueError, match=message):
        make_distiller(student=student)
    peers = dict(teacher=student)
    settings = dict(student=make_segmentor(num_classes=2), peers=peers, distill=[])
    with pytest.raises(ValueError, match=message.replace('student', 'teacher')):
        MODELS.build(dict(type='MutualDistiller', **settings))


def test_a_teacher_of_other_classes_is_refused_before_the_first_step(
    make_distiller, make_segmentor
):
    student = with_head(make_segmentor(auxiliary=False), **SIGMOID)
    with pytest.raises(ValueError, match='teacher predicts 5 and the student 2'):
        make_distiller(student=student).init_weights()


def test_a_sigmoid_for_each_class_is_said(make_distiller, make_segmentor, make_batch, monkeypatch):
    """Fast-SCNN as mmseg ships it; it trains."""
    messages = []
    monkeypatch.setattr(binary, 'print_log', lambda text, **_: messages.append(text))
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    student = with_head(make_segmentor(), loss_decode=loss)
    assert 'distill.loss_balkd' in make_distiller(student=student).loss(*make_batch())
    (message,) = messages
    assert 'student is trained with a sigmoid for each class' in message
    make_distiller(student=student, distill=[dict(type='AttentionTransferLoss', **FEATURES)])
    assert len(messages) == 1
