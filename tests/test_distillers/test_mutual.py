"""MutualDistiller: one step of several networks against the same step written by hand."""

import copy
import os
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.registry import MODELS

from balkd_seg.distillers import base

BDKD = [
    dict(
        type='BalancedDivergenceLoss', loss_name='loss_bdkd', entropy_weighting='image', delta=3.0
    ),
    dict(type='PixelwiseKLLoss', learner='teacher', source='student'),
]


def mutual(student, peers, distill=None, seed=0, **settings):
    """Build a MutualDistiller whose networks are initialised."""
    torch.manual_seed(seed)
    distiller = MODELS.build(
        dict(
            type='MutualDistiller',
            student=copy.deepcopy(student),
            peers=copy.deepcopy(peers),
            distill=distill or copy.deepcopy(BDKD),
            **settings,
        )
    )
    distiller.init_weights()
    return distiller


@pytest.fixture
def pair(make_segmentor):
    """Return a function that builds a student at stride 16 and a teacher at stride 8."""

    def build(distill=None, **settings):
        return mutual(
            make_segmentor(), dict(teacher=make_segmentor(depth=34, stride=8)), distill, **settings
        )

    return build


def trained(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


def by_hand(networks, inputs, target, terms):
    """The step in plain PyTorch: `terms` maps (learner, source) to a function of both logits."""
    own, logits = {}, {}
    size, keep = target.shape[1:], target != 255

    def task(z):
        z = F.interpolate(z, size, mode='bilinear')
        return F.cross_entropy(z, target, ignore_index=255, reduction='sum') / target.numel()

    for name, network in networks.items():
        features = network.extract_feat(inputs)
        logits[name] = network.decode_head(features)
        own[name] = task(logits[name]) + 0.4 * task(network.auxiliary_head(features))
    losses = dict(own)
    for (learner, source), divergence in terms.items():
        s = F.interpolate(logits[learner], size, mode='bilinear')
        t = F.interpolate(logits[source].detach(), size, mode='bilinear')
        losses[learner] = losses[learner] + divergence(s, t, keep)
    return losses


def forward_kl(s, t, keep):
    value = F.kl_div(s.log_softmax(1), t.log_softmax(1), reduction='none', log_target=True).sum(1)
    return value[keep].mean()


def weighted_by_image(s, t, keep, delta=3.0):
    log_q, log_p = s.log_softmax(1), t.log_softmax(1)
    total = 0.0
    for n in range(len(s)):
        q, p = log_q[n][:, keep[n]], log_p[n][:, keep[n]]
        h_q, h_p = (-(z.exp() * z).sum(0).mean().item() for z in (q, p))
        total = total + (delta if h_p > h_q else 1) * (p.exp() * (p - q)).sum()
        total = total + (delta if h_q > h_p else 1) * (q.exp() * (q - p)).sum()
    return total / keep.sum()


@pytest.mark.parametrize('fuse_task_loss', [False, True])
def test_a_step_is_that_of_two_networks_written_by_hand(pair, make_batch, fuse_task_loss):
    distiller = pair(fuse_task_loss=fuse_task_loss).double()
    networks = copy.deepcopy(distiller.networks())
    inputs, samples = make_batch(size=3)
    inputs = inputs.double()
    target = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    torch.manual_seed(1)
    losses = distiller.loss(inputs, samples)
    torch.manual_seed(1)  # the same dropout
    expected = by_hand(
        networks, inputs, target,
        {('student', 'teacher'): weighted_by_image, ('teacher', 'student'): forward_kl},
    )  # fmt: skip
    for name in ('student', 'teacher'):
        own = {k: v for k, v in losses.items() if k.startswith('teacher.') == (name == 'teacher')}
        torch.testing.assert_close(trained(own), expected[name], rtol=1e-9, atol=1e-9)
    trained(losses).backward()
    sum(expected.values()).backward()
    for name, network in distiller.networks().items():
        reference = dict(networks[name].named_parameters())
        for key, parameter in network.named_parameters():
            torch.testing.assert_close(
                parameter.grad, reference[key].grad, rtol=1e-8, atol=1e-10, msg=f'{name}.{key}'
            )
        buffers = dict(networks[name].named_buffers())
        for key, buffer in network.named_buffers():
            torch.testing.assert_close(buffer, buffers[key], msg=f'{name}.{key}')


def test_each_network_runs_once_a_step(pair, make_batch):
    distiller, calls = pair(), []
    for name, network in distiller.networks().items():
        network.backbone.register_forward_hook(lambda *_, name=name: calls.append(name))
    distiller.loss(*make_batch())
    assert calls == ['student', 'teacher']


def test_exchanging_identical_peers_exchanges_results(make_segmentor, make_batch):
    config = make_segmentor()
    config['decode_head']['dropout_ratio'] = config['auxiliary_head']['dropout_ratio'] = 0.0
    distill = [
        dict(type='BalancedDivergenceLoss', learner=name, entropy_weighting='pixel')
        for name in ('student', 'teacher')
    ]
    one = mutual(config, dict(teacher=config), distill)
    other = mutual(config, dict(teacher=config), distill)
    other.student.load_state_dict(one.peers['teacher'].state_dict())
    other.peers['teacher'].load_state_dict(one.student.state_dict())
    losses, exchanged = (distiller.loss(*make_batch()) for distiller in (one, other))
    for distiller, values in ((one, losses), (other, exchanged)):
        trained(values).backward()
        assert distiller.student.backbone.stem[0].weight.grad.abs().max() > 0
    for key, value in losses.items():
        swapped = key.removeprefix('teacher.') if key.startswith('teacher.') else f'teacher.{key}'
        torch.testing.assert_close(value, exchanged[swapped])
    gradients = [p.grad for p in one.student.parameters()]
    for a, b in zip(gradients, other.peers['teacher'].parameters(), strict=True):
        torch.testing.assert_close(a, b.grad)


def test_delta_1_is_exactly_the_unweighted_step(pair, make_batch):
    results = []
    for settings in ({}, {'entropy_weighting': 'image', 'delta': 1.0}):
        distiller = pair([dict(type='BalancedDivergenceLoss', **settings)])
        torch.manual_seed(3)
        losses = distiller.loss(*make_batch())
        trained(losses).backward()
        results.append((losses['distill.loss_balkd'], distiller.backbone.stem[0].weight.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_network_without_terms_learns_from_its_labels_alone(pair, make_batch):
    distiller = pair([dict(type='PixelwiseKLLoss', source='teacher')])
    alone = copy.deepcopy(distiller.peers['teacher'])
    torch.manual_seed(2)
    losses = distiller.loss(*make_batch())
    assert not any(key.startswith('teacher.distill') for key in losses)
    losses['distill.loss_kd'].backward()
    assert all(p.grad is None for p in distiller.peers['teacher'].parameters())
    assert {k.removeprefix('teacher.') for k in losses if k.startswith('teacher.')} == set(
        alone.loss(*make_batch())
    )


def test_a_cohort_of_three(make_segmentor, make_batch):
    names = ('student', 'second', 'third')
    distill = [
        dict(type='PixelwiseKLLoss', loss_name=f'loss_{source}', learner=learner, source=source)
        for learner in names
        for source in names
        if learner != source
    ]
    config = make_segmentor()
    distiller = mutual(config, dict(second=config, third=config), distill)
    losses = distiller.loss(*make_batch())
    assert {'distill.loss_second', 'second.distill.loss_third', 'third.decode.loss_ce'} <= set(
        losses
    )
    trained(losses).backward()
    assert all(p.grad is not None for p in distiller.parameters())
    stems = [network.backbone.stem[0].weight for network in distiller.networks().values()]
    assert not torch.equal(stems[0], stems[1])
    assert not torch.equal(stems[1], stems[2])
    with pytest.raises(ValueError, match=r"two of \['student', 'second', 'third'\].*None"):
        mutual(config, dict(second=config, third=config), [dict(type='PixelwiseKLLoss')])


def test_the_state_dict_is_the_stock_students(pair, make_segmentor):
    distiller = pair()
    alone = MODELS.build(make_segmentor())
    assert list(distiller.state_dict()) == list(alone.state_dict())
    distiller.load_state_dict(alone.state_dict(), strict=True)
    assert torch.equal(distiller.student.backbone.stem[0].weight, alone.backbone.stem[0].weight)
    assert set(distiller.peers.beside_state_dict()) == {'teacher'}


def test_the_student_starts_as_it_would_alone(pair, make_segmentor):
    torch.manual_seed(0)
    alone = MODELS.build(make_segmentor())
    alone.init_weights()
    for key, value in pair(seed=0).state_dict().items():
        assert torch.equal(value, alone.state_dict()[key]), key


def test_a_peer_starts_from_its_checkpoint(make_segmentor, save_teacher):
    teacher = make_segmentor(depth=34)
    path = save_teacher(teacher)
    distiller = mutual(make_segmentor(), dict(teacher=dict(teacher, checkpoint=path)))
    stored = torch.load(path, weights_only=True)['state_dict']
    state = distiller.peers['teacher'].state_dict()
    assert all(torch.equal(state[key], value) for key, value in stored.items())
    assert any(key.startswith('auxiliary_head') for key in stored)


def test_a_checkpoint_of_mutual_training_gives_the_peer(make_segmentor, tmp_path):
    source = mutual(make_segmentor(), dict(teacher=make_segmentor()))
    stored = dict(state_dict=source.state_dict(), peers=source.peers.beside_state_dict())
    path = str(tmp_path / 'mutual.pth')
    torch.save(stored, path)
    started = mutual(
        make_segmentor(), dict(teacher=dict(make_segmentor(), checkpoint=path)), seed=1
    )
    got = started.peers['teacher'].backbone.stem[0].weight
    assert torch.equal(got, source.peers['teacher'].backbone.stem[0].weight)
    assert not torch.equal(got, source.student.backbone.stem[0].weight)


def test_starting_peers_leaves_no_trace_in_other_devices_random_states(make_segmentor, monkeypatch):
    """`torch.manual_seed` reseeds every CUDA device, on which the student is initialised."""
    seeded = []
    for name in ('manual_seed', 'manual_seed_all'):
        monkeypatch.setattr(torch.cuda, name, seeded.append)
    distiller = MODELS.build(
        dict(
            type='MutualDistiller', student=make_segmentor(), peers=dict(teacher=make_segmentor()),
            distill=copy.deepcopy(BDKD),
        )
    )  # fmt: skip
    distiller.init_weights()
    assert seeded == []


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get('BALKD_REQUIRE_GPU') != '1',
    reason='needs a CUDA device',
)
def test_equal_peers_start_apart_and_the_student_as_alone_on_a_gpu(make_segmentor):
    def start(config):
        torch.manual_seed(0)
        model = MODELS.build(config).cuda()
        model.init_weights()
        return model, torch.cuda.initial_seed()

    alone, _ = start(make_segmentor())
    distiller, seed = start(
        dict(
            type='MutualDistiller', student=make_segmentor(), peers=dict(teacher=make_segmentor()),
            distill=copy.deepcopy(BDKD),
        )
    )  # fmt: skip
    assert seed == 0
    for key, value in alone.state_dict().items():
        assert torch.equal(value, distiller.state_dict()[key]), key
    peer = dict(distiller.peers['teacher'].named_parameters())
    for key, value in alone.named_parameters():
        if value.ndim == 4:
            assert not torch.equal(value, peer[key]), key


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get('BALKD_REQUIRE_GPU') != '1',
    reason='needs a CUDA device',
)
def test_synchronised_batch_norm_in_both_networks(make_segmentor, make_batch):
    """In a group of one process it is BN."""
    torch.distributed.init_process_group(
        'nccl', init_method='tcp://127.0.0.1:29511', rank=0, world_size=1
    )
    try:
        distiller = mutual(make_segmentor(), dict(teacher=make_segmentor(depth=34)))
        synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(distiller))
        values = []
        for model in (distiller.cuda(), synchronised.cuda()):
            torch.manual_seed(0)
            inputs, samples = make_batch()
            for sample in samples:
                sample.gt_sem_seg.data = sample.gt_sem_seg.data.cuda()
            values.append(trained(model.loss(inputs.cuda(), samples)))
            values[-1].backward()
            assert all(p.grad is not None for p in model.parameters())
        torch.testing.assert_close(*values, rtol=1e-3, atol=1e-3)
    finally:
        torch.distributed.destroy_process_group()


class Unguarded(torch.nn.Module):
    """A loss that sends its gradient wherever it can."""

    loss_name = 'loss_unguarded'

    def forward(self, student, teacher, target):
        return SimpleNamespace(
            _asdict=lambda: dict(loss=(student - teacher.mean()).square().mean())
        )


def test_no_gradient_reaches_the_other_network(pair, make_batch):
    distiller = pair([dict(type='PixelwiseKLLoss', resize='student', source='teacher')])
    distiller.distill_terms[0].loss = Unguarded()
    losses = distiller.loss(*make_batch())
    losses['distill.loss_kd'].backward()
    assert all(p.grad is None for p in distiller.peers.parameters())
    assert distiller.decode_head.conv_seg.weight.grad.abs().max() > 0


def test_a_checkpoint_of_another_class_order_is_refused(make_segmentor, make_batch, save_teacher):
    from mmengine.logging import MessageHub

    path = save_teacher(make_segmentor(), classes=('b', 'a', 'c', 'd', 'e'))
    distiller = mutual(make_segmentor(), dict(teacher=dict(make_segmentor(), checkpoint=path)))
    hub = MessageHub.get_current_instance()
    hub.update_info('dataset_meta', dict(classes=tuple('abcde')))
    try:
        with pytest.raises(ValueError, match=r'Expected the teacher to have the classes .* b / a'):
            distiller.loss(*make_batch())
    finally:
        hub.runtime_info.clear()


def test_a_peer_sees_its_own_normalisation(make_segmentor, make_batch):
    config = make_segmentor()
    other = copy.deepcopy(config)
    other['data_preprocessor'].update(mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=False)
    distiller, seen = mutual(config, dict(teacher=other)), []
    distiller.peers['teacher'].backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    raw = list(torch.randint(0, 255, (2, 3, 32, 48), dtype=torch.uint8))
    batch = dict(inputs=raw, data_samples=make_batch()[1])
    data = distiller.data_preprocessor(batch, True)
    distiller.loss(**data)
    expected = distiller.peers['teacher'].data_preprocessor(batch, True)
    torch.testing.assert_close(seen[0], expected['inputs'], rtol=1e-5, atol=1e-5)


def test_every_network_predicts_as_it_would_alone(pair, make_batch):
    distiller = pair().eval()
    inputs, samples = make_batch()
    with torch.no_grad():
        results = distiller.predict(inputs, copy.deepcopy(samples))
        for name, network in distiller.networks().items():
            alone = network.predict(inputs, copy.deepcopy(samples))
            prefix = '' if name == 'student' else f'{name}_'
            for result, other in zip(results, alone, strict=True):
                for key in ('pred_sem_seg', 'seg_logits'):
                    assert torch.equal(result.get(prefix + key).data, other.get(key).data)


def test_untrained_peers_do_not_predict(make_segmentor, make_batch):
    distiller = MODELS.build(
        dict(
            type='MutualDistiller', student=make_segmentor(), peers=dict(teacher=make_segmentor()),
            distill=copy.deepcopy(BDKD),
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        (result,) = distiller.predict(*make_batch(size=1))
    assert 'pred_sem_seg' in result
    assert 'teacher_pred_sem_seg' not in result


def test_settings_of_the_optimiser_reach_each_network(pair):
    wrapper = DefaultOptimWrapperConstructor(
        dict(optimizer=dict(type='SGD', lr=0.1)),
        # the longest key that matches counts: that of the teacher's auxiliary head has to say so
        dict(
            custom_keys={
                'peers.teacher': dict(lr_mult=0.5),
                'peers.teacher.auxiliary_head': dict(lr_mult=0.5),
                'decode_head': dict(lr_mult=10.0),
                'auxiliary_head': dict(lr_mult=10.0),
            }
        ),
    )
    distiller = pair()
    groups = wrapper(distiller).optimizer.param_groups
    rates = {id(group['params'][0]): group['lr'] for group in groups}
    assert len(rates) == sum(1 for _ in distiller.parameters())
    assert {rates[id(p)] for p in distiller.peers.parameters()} == {0.05}
    for head in (distiller.decode_head, distiller.auxiliary_head):
        assert {rates[id(p)] for p in head.parameters()} == {1.0}
    assert {rates[id(p)] for p in distiller.backbone.parameters()} == {0.1}


def test_gradient_accumulation_adds_up(pair, make_batch):
    distiller = pair()
    for part in distiller.modules():
        if isinstance(part, (torch.nn.Dropout2d, torch.nn.BatchNorm2d)):
            part.eval()  # so that halves are independent
    inputs, samples = make_batch(size=2)
    for sample in samples:
        sample.gt_sem_seg.data = sample.gt_sem_seg.data.clamp(max=4)  # alike in valid pixels
    trained(distiller.loss(inputs, samples)).backward()
    whole = [p.grad.clone() for p in distiller.parameters()]
    distiller.zero_grad()
    for half in range(2):
        (trained(distiller.loss(inputs[half : half + 1], samples[half : half + 1])) / 2).backward()
    for p, expected in zip(distiller.parameters(), whole, strict=True):
        torch.testing.assert_close(p.grad, expected, rtol=1e-3, atol=1e-5)


def test_bfloat16_autocast_gives_finite_close_losses(pair, make_batch):
    distiller, values = pair(), []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            values.append(trained(distiller.loss(*make_batch())))
    values[1].backward()
    torch.testing.assert_close(values[1], values[0], rtol=0.05, atol=0.05)
    assert all(torch.isfinite(p.grad).all() for p in distiller.parameters())


def test_without_the_hook_it_warns_that_peers_are_not_stored(pair, make_batch, monkeypatch):
    said = []
    monkeypatch.setattr(base, 'print_log', lambda text, **_: said.append(text))
    distiller = pair()
    distiller.loss(*make_batch())
    assert any('Checkpoints will lack the peers teacher' in text for text in said)


@pytest.mark.parametrize('name', ['student', 'aux', 'a.b', 'my_loss', 'keys', 'start', 'training'])
def test_names_that_would_confuse_the_log_are_refused(make_segmentor, name):
    with pytest.raises(ValueError, match='names in `peers` to be identifiers'):
        mutual(make_segmentor(), {name: make_segmentor()})


def test_what_cannot_be_is_refused(make_segmentor):
    student, teacher = make_segmentor(), make_segmentor()
    with pytest.raises(ValueError, match='at least one network in `peers`'):
        mutual(student, {})
    with pytest.raises(ValueError, match='same classes, but the teacher predicts 7'):
        mutual(student, dict(teacher=make_segmentor(num_classes=7)))
    with pytest.raises(ValueError, match=r"to be two of .* but got 'pupil' and None"):
        mutual(student, dict(teacher=teacher), [dict(type='PixelwiseKLLoss', learner='pupil')])
    with pytest.raises(ValueError, match='tap `neck` to be a module of the teacher'):
        mutual(student, dict(teacher=teacher), [dict(type='PixelwiseKLLoss', teacher_tap='neck')])
    with pytest.raises(
        FileNotFoundError,
        match=r'checkpoint of the teacher .*model\.peers\.teacher\.checkpoint=PATH',
    ):
        mutual(student, dict(teacher=dict(teacher, checkpoint='no.pth')))
