"""The offline distiller: what trains, what is saved, what is refused."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.runner import load_checkpoint
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS
from torch.nn import functional as F

from balkd_seg.distillers import OfflineDistiller
from balkd_seg.ops import balanced_divergence


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


def test_loss_is_the_students_own_plus_the_divergence_of_both_logits(
    make_distiller, make_segmentor, make_batch
):
    student_cfg, teacher_cfg = make_segmentor(), make_segmentor(depth=34, stride=8)
    for config in (student_cfg, teacher_cfg):
        config['decode_head']['dropout_ratio'] = config['auxiliary_head']['dropout_ratio'] = 0
    distiller = make_distiller(student=student_cfg, teacher=teacher_cfg)
    inputs, samples = make_batch()
    distiller.build_teacher()
    distiller.train()
    plain = copy.deepcopy(distiller.student)
    losses = distiller.loss(inputs, samples)

    own = plain.loss(inputs, samples)
    for name, value in own.items():
        torch.testing.assert_close(losses[name], value, rtol=0, atol=0)
    plain.train()
    student_logits = plain._forward(inputs)
    with torch.no_grad():
        teacher_logits = distiller.teacher.network._forward(inputs)
    assert student_logits.shape != teacher_logits.shape
    upsampled = [
        F.interpolate(x.double(), size=(32, 48), mode='bilinear', align_corners=False).log_softmax(
            1
        )
        for x in (student_logits, teacher_logits)
    ]
    student_log, teacher_log = upsampled
    forward = (teacher_log.exp() * (teacher_log - student_log)).sum(1)
    reverse = (student_log.exp() * (student_log - teacher_log)).sum(1)
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = (forward + reverse)[labels != 255].mean()
    torch.testing.assert_close(
        losses['distill.loss_balkd'].double(), expected, rtol=1e-4, atol=1e-6
    )


def test_images_are_weighted_by_their_entropy(make_distiller, make_batch):
    """As the card of bdkd has it for a frozen teacher."""
    settings = dict(entropy_weighting='image', delta=3.0)
    distiller = make_distiller(distill=[dict(type='BalancedDivergenceLoss', **settings)])
    distiller.build_teacher()
    logits = {}
    for name, network in (('s', distiller.student), ('t', distiller.teacher.network)):
        network.decode_head.conv_seg.register_forward_hook(
            lambda _, __, output, name=name: logits.update({name: output.detach()})
        )
    inputs, samples = make_batch()
    losses = distiller.loss(inputs, samples)
    target = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    pair = logits['s'], logits['t'], target
    expected = balanced_divergence(*pair, impl='reference', **settings)
    torch.testing.assert_close(losses['distill.loss_balkd'].detach(), expected.loss)
    torch.testing.assert_close(losses['distill.balkd_teacher_entropy'], expected.teacher_entropy)
    assert expected.loss > balanced_divergence(*pair, impl='reference').loss


def test_log_shows_every_term_and_only_losses_carry_loss_in_their_name(make_distiller, make_batch):
    distiller = make_distiller()
    losses = distiller.loss(*make_batch())
    watched = {name for name in losses if name.startswith('distill.') and 'loss' not in name}
    assert watched == {
        f'distill.balkd_{part}' for part in ('forward', 'reverse', 'agreement', 'valid')
    }
    assert all(not losses[name].requires_grad for name in watched)
    parsed, _ = distiller.parse_losses(losses)
    torch.testing.assert_close(parsed, total(losses))
    parsed.backward()
    assert all(parameter.grad is not None for parameter in distiller.parameters())


def test_state_dict_parameters_and_checkpoint_are_the_stock_students(
    make_distiller, make_segmentor, tmp_path
):
    distiller = make_distiller()
    stock = MODELS.build(make_segmentor())
    assert list(distiller.state_dict()) == list(stock.state_dict())
    distiller.build_teacher()
    assert list(distiller.state_dict()) == list(stock.state_dict())
    assert [n for n, _ in distiller.named_parameters()] == [n for n, _ in stock.named_parameters()]
    path = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=distiller.state_dict()), path)
    stock.load_state_dict(torch.load(path, weights_only=True)['state_dict'], strict=True)
    other = make_distiller(seed=1)
    load_checkpoint(other, path, strict=True)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(value, distiller.state_dict()[key], rtol=0, atol=0)


def test_teacher_never_changes_and_the_student_does(make_distiller, make_batch):
    distiller = make_distiller()
    distiller.build_teacher()
    distiller.train()
    frozen = copy.deepcopy(distiller.teacher.network.state_dict())
    before = copy.deepcopy(distiller.state_dict())
    wrapper = build_optim_wrapper(
        distiller, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    )
    inputs, samples = make_batch()
    for _ in range(2):
        wrapper.update_params(total(distiller.loss(inputs, samples)))
    teacher = distiller.teacher.network
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.with_auxiliary_head
    for key, value in teacher.state_dict().items():
        torch.testing.assert_close(value, frozen[key], rtol=0, atol=0)
    changed = [k for k, v in distiller.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) > len(before) / 2


def test_teacher_follows_to_and_copies_share_it(make_distiller):
    distiller = make_distiller()
    distiller.build_teacher()
    distiller.to(torch.float64)
    assert next(distiller.teacher.network.parameters()).dtype == torch.float64
    assert copy.deepcopy(distiller).teacher is distiller.teacher
    clone = copy.deepcopy(distiller)
    assert clone.student.backbone is clone.backbone
    assert clone.backbone is not distiller.backbone


def test_predict_needs_no_teacher_and_equals_the_student(
    make_distiller, make_segmentor, make_batch
):
    distiller = make_distiller()
    stock = MODELS.build(ConfigDict(make_segmentor()))
    stock.load_state_dict(distiller.state_dict())
    inputs, samples = make_batch()
    distiller.eval()
    stock.eval()
    mine = distiller(inputs, copy.deepcopy(samples), mode='predict')
    theirs = stock(inputs, copy.deepcopy(samples), mode='predict')
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
        assert torch.equal(a.seg_logits.data, b.seg_logits.data)
    assert torch.equal(distiller(inputs), stock(inputs))
    assert distiller.teacher is None


def test_slide_inference_equals_the_student(make_distiller, make_segmentor, make_batch):
    config = make_segmentor()
    config['test_cfg'] = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    distiller = make_distiller(student=config)
    stock = MODELS.build(ConfigDict(config))
    stock.load_state_dict(distiller.state_dict())
    inputs, samples = make_batch(size=1, height=48, width=64)
    mine = distiller.eval()(inputs, copy.deepcopy(samples), mode='predict')[0]
    theirs = stock.eval()(inputs, copy.deepcopy(samples), mode='predict')[0]
    assert torch.equal(mine.seg_logits.data, theirs.seg_logits.data)


def test_cascade_student_and_teacher_are_tapped_at_their_last_head(
    make_distiller, make_cascade, make_batch
):
    distiller = make_distiller(student=make_cascade(), teacher=make_cascade(depth=34))
    losses = distiller.loss(*make_batch())
    assert distiller.distill_terms[0].student_tap == 'decode_head.1'
    assert {'decode_0.loss_ce', 'decode_1.loss_ce', 'distill.loss_balkd'} <= set(losses)
    total(losses).backward()
    assert distiller.decode_head[1].conv_seg.weight.grad.abs().sum() > 0


def test_teacher_sees_its_own_normalisation(make_distiller, make_segmentor, make_batch):
    teacher = make_segmentor(depth=34)
    teacher['data_preprocessor'].update(
        mean=[10.0, 20.0, 30.0], std=[2.0, 3.0, 4.0], bgr_to_rgb=False
    )
    distiller = make_distiller(teacher=teacher)
    distiller.build_teacher()
    images = torch.randint(0, 256, (2, 3, 32, 48)).float()
    data = dict(inputs=list(images), data_samples=make_batch()[1])
    student_inputs = distiller.data_preprocessor(copy.deepcopy(data), True)['inputs']
    expected_inputs = distiller.teacher.network.data_preprocessor(data, True)['inputs']
    path = 'decode_head'
    seen = distiller.teacher(student_inputs, [path])[path]
    with torch.no_grad():
        expected = distiller.teacher.network(expected_inputs, mode='tensor')
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
    plain = distiller.teacher.network(student_inputs, mode='tensor')
    assert not torch.allclose(seen, plain, atol=1e-2)


def test_feature_tap_with_projection_trains_beside_the_state_dict(make_distiller, make_batch):
    entry = dict(
        type='ChannelwiseKLLoss',
        student_tap='backbone.layer4',
        teacher_tap='backbone.layer3',
        projection=dict(in_channels=64, out_channels=32),
        resize='student',
    )
    distiller = make_distiller(distill=[dict(type='BalancedDivergenceLoss'), entry])
    losses = distiller.loss(*make_batch())
    total(losses).backward()
    projection = distiller.distill_terms[1].projection
    assert projection.weight.grad.abs().sum() > 0
    assert projection.weight in set(distiller.parameters())
    assert not [key for key in distiller.state_dict() if 'distill' in key]
    state = distiller.distill_terms.beside_state_dict()
    assert sorted(state) == ['loss_cwd.projection.bias', 'loss_cwd.projection.weight']
    distiller.load_state_dict(distiller.state_dict(), strict=True)


def test_a_tap_that_is_overwritten_in_place_is_refused(make_distiller, make_batch):
    entry = dict(type='ChannelwiseKLLoss', resize='student')
    tap = 'backbone.layer4.1.bn2'
    refuse(
        make_distiller(distill=[dict(entry, student_tap=tap, teacher_tap='backbone.layer4')]),
        make_batch(),
        ValueError,
        r'`backbone\.layer4\.1\.bn2` of the student to stay.*in place',
    )


def test_config_by_name_with_overrides_builds_the_named_student(make_segmentor, save_teacher):
    teacher = make_segmentor(depth=34)
    distiller = MODELS.build(
        dict(
            type='OfflineDistiller',
            student=dict(
                config='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
                pretrained=None,
                decode_head=dict(num_classes=5),
                auxiliary_head=dict(num_classes=5),
            ),
            teacher=dict(teacher, checkpoint=save_teacher(teacher)),
            distill=[dict(type='PixelwiseKLLoss')],
        )
    )
    assert distiller.backbone.depth == 18
    assert distiller.decode_head.in_channels == 512
    assert distiller.num_classes == 5


def test_gradient_accumulation_equals_one_large_step(make_distiller, make_segmentor, make_batch):
    student = make_segmentor()
    student['decode_head']['dropout_ratio'] = student['auxiliary_head']['dropout_ratio'] = 0
    gradients = []
    for accumulate in (1, 2):
        distiller = make_distiller(student=copy.deepcopy(student)).double()
        distiller.build_teacher()
        distiller.double().eval()
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.0)
        wrapper = OptimWrapper(optimizer, accumulative_counts=accumulate)
        wrapper.initialize_count_status(distiller, 0, 2)
        wrapper.zero_grad = lambda: None
        inputs, samples = make_batch()
        for _ in range(accumulate):
            with wrapper.optim_context(distiller):
                loss = total(distiller.loss(inputs.double(), samples))
            wrapper.update_params(loss)
        gradients.append(distiller.decode_head.conv_seg.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_crop_of_ignored_pixels_only_trains_on_without_distillation(make_distiller, make_batch):
    distiller = make_distiller()
    inputs, samples = make_batch()
    for sample in samples:
        sample.gt_sem_seg.data.fill_(255)
    losses = distiller.loss(inputs, samples)
    assert losses['distill.loss_balkd'].item() == 0
    assert losses['distill.balkd_valid'].item() == 0
    total(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in distiller.parameters())


def test_bfloat16_autocast_gives_a_finite_close_loss(make_distiller, make_batch):
    distiller = make_distiller().eval()
    inputs, samples = make_batch()
    exact = distiller.loss(inputs, samples)['distill.loss_balkd']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = distiller.loss(inputs, samples)['distill.loss_balkd']
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.2, atol=1e-3)


def refuse(distiller, batch, error, match):
    with pytest.raises(error, match=match):
        distiller.loss(*batch)


def test_missing_checkpoint_is_refused_before_training(make_distiller):
    distiller = make_distiller(checkpoint='nowhere/teacher.pth')
    with pytest.raises(FileNotFoundError, match=r'checkpoint of the teacher at `nowhere/teacher'):
        distiller.init_weights()


def test_no_checkpoint_is_refused(make_segmentor):
    distiller = OfflineDistiller(
        make_segmentor(), make_segmentor(depth=34), [dict(type='PixelwiseKLLoss')]
    )
    with pytest.raises(ValueError, match='Expected `checkpoint` in the teacher'):
        distiller.init_weights()


def test_truncated_checkpoint_is_refused(make_distiller, make_segmentor, save_teacher, tmp_path):
    path = save_teacher(make_segmentor(depth=34))
    content = Path(path).read_bytes()
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r'broken\.pth.*malformed or truncated'):
        make_distiller(checkpoint=str(broken)).init_weights()


def test_checkpoint_of_another_architecture_is_refused(
    make_distiller, make_segmentor, save_teacher
):
    other = save_teacher(make_segmentor(depth=18), name='r18.pth')
    with pytest.raises(ValueError, match=r'r18\.pth.*fit the teacher exactly.*missing \('):
        make_distiller(checkpoint=other).init_weights()


def test_other_class_count_is_refused(make_distiller, make_segmentor):
    distiller = make_distiller(teacher=make_segmentor(depth=34, num_classes=6))
    with pytest.raises(ValueError, match=r'teacher predicts 6 and the student 5'):
        distiller.init_weights()


def test_other_class_order_is_refused(make_distiller, make_batch):
    distiller = make_distiller(classes=('road', 'sky', 'car', 'tree', 'pole'))
    hub = MessageHub.get_current_instance()
    hub.update_info('dataset_meta', dict(classes=('sky', 'road', 'car', 'tree', 'pole')))
    try:
        refuse(distiller, make_batch(), ValueError, r'same order.*0: road / sky, 1: sky / road')
        hub.update_info('dataset_meta', dict(classes=('road', 'sky', 'car', 'tree', 'pole')))
        distiller.loss(*make_batch())
    finally:
        hub.runtime_info.pop('dataset_meta')


@pytest.mark.parametrize('tap', ['decode_head.conv_sag', 'backbone.layer9', 'nothing'])
def test_unknown_tap_is_refused(make_distiller, tap):
    entry = dict(type='PixelwiseKLLoss')
    with pytest.raises(ValueError, match=rf'tap `{tap}` to be a module of the student.*It has: '):
        make_distiller(distill=[dict(entry, student_tap=tap)])
    with pytest.raises(ValueError, match=rf'tap `{tap}` to be a module of the teacher.*It has: '):
        make_distiller(distill=[dict(entry, teacher_tap=tap)]).init_weights()


def test_tap_that_gives_no_logits_in_a_training_step_is_refused(make_distiller, make_batch):
    entry = dict(type='PixelwiseKLLoss', teacher_tap='backbone')
    refuse(
        make_distiller(distill=[entry]),
        make_batch(),
        ValueError,
        r'`backbone` of the teacher.*gave',
    )
    entry = dict(type='PixelwiseKLLoss', teacher_tap='data_preprocessor')
    refuse(make_distiller(distill=[entry]), make_batch(), ValueError, r'teacher.*was not called')


def test_sizes_that_cannot_be_reconciled_are_refused(make_distiller, make_segmentor, make_batch):
    entry = dict(type='BalancedDivergenceLoss', resize='none')
    distiller = make_distiller(teacher=make_segmentor(depth=34, stride=8), distill=[entry])
    refuse(distiller, make_batch(), ValueError, r"resize='none'")


def test_label_outside_the_classes_is_refused_and_the_file_named(make_distiller, make_batch):
    inputs, samples = make_batch(path='berlin_007.png')
    samples[1].gt_sem_seg.data[0, 3, 4] = 17
    refuse(
        make_distiller(),
        (inputs, samples),
        ValueError,
        r'from 0 to 4.*got \[17\] in berlin_007_labels',
    )


def test_nan_teacher_is_refused_by_name(make_distiller, make_batch):
    distiller = make_distiller()
    distiller.build_teacher()
    distiller.teacher.network.decode_head.conv_seg.bias.data[2] = float('nan')
    before = copy.deepcopy(distiller.state_dict())
    refuse(distiller, make_batch(), ValueError, r'NaN.*ResNetV1c from .*teacher\.pth')
    for key, value in distiller.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_class_the_teacher_rules_out_is_no_error(make_distiller, make_batch):
    distiller = make_distiller()
    distiller.build_teacher()
    distiller.teacher.network.decode_head.conv_seg.bias.data[2] = -float('inf')
    distiller.loss(*make_batch())


def test_two_terms_of_one_name_are_refused(make_distiller):
    with pytest.raises(ValueError, match=r"each its own `loss_name`.*'loss_kd', 'loss_kd'"):
        make_distiller(distill=[dict(type='PixelwiseKLLoss'), dict(type='PixelwiseKLLoss')])


def test_wrong_loss_settings_are_refused_when_the_model_is_built(make_distiller):
    with pytest.raises(ValueError, match='temperature'):
        make_distiller(distill=[dict(type='BalancedDivergenceLoss', forward_temperature=0)])
    with pytest.raises(ValueError, match='weight'):
        make_distiller(distill=[dict(type='BalancedDivergenceLoss', reverse_weight=-1)])


def test_mmsegs_init_model_and_inference_take_the_distillation_config(
    make_distiller, make_segmentor, tmp_path
):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    config = Config(
        dict(
            model=dict(
                type='OfflineDistiller',
                student=make_segmentor(),
                teacher=dict(make_segmentor(depth=34), checkpoint='not_there.pth'),
                distill=[dict(type='PixelwiseKLLoss')],
            ),
            test_pipeline=pipeline,
            test_dataloader=dict(dataset=dict(type='CityscapesDataset', pipeline=pipeline)),
        )
    )
    path = str(tmp_path / 'student.pth')
    meta = dict(dataset_meta=dict(classes=('a',) * 5, palette=[[0, 0, 0]] * 5))
    torch.save(dict(state_dict=make_distiller().state_dict(), meta=meta), path)
    model = init_model(config, path, device='cpu')
    result = inference_model(model, np.zeros((32, 48, 3), np.uint8))
    assert result.pred_sem_seg.data.shape == (1, 32, 48)


def test_the_student_starts_as_it_would_alone_with_the_same_seed(
    make_segmentor, save_teacher, make_distiller
):
    teacher = make_segmentor(depth=34)
    entry = dict(
        type='ChannelwiseKLLoss',
        student_tap='backbone.layer4',
        teacher_tap='backbone.layer4',
        projection=dict(in_channels=64, out_channels=64),
    )
    checkpoint = save_teacher(teacher)
    torch.manual_seed(3)
    alone = MODELS.build(make_segmentor())
    alone.init_weights()
    next_alone = torch.rand(1)
    distiller = make_distiller(teacher=teacher, checkpoint=checkpoint, distill=[entry], seed=3)
    distiller.init_weights()
    for key, value in alone.state_dict().items():
        assert torch.equal(distiller.state_dict()[key], value), key
    assert torch.equal(torch.rand(1), next_alone)


def test_settings_that_differ_from_the_heads_are_refused(make_distiller, make_segmentor):
    student = make_segmentor()
    student['decode_head']['align_corners'] = True
    student['decode_head']['ignore_index'] = 4
    for name, value, told in (
        ('align_corners', False, 'True, but got False'),
        ('ignore_index', 255, '4, but got 255'),
    ):
        for entry in (
            dict(type='PixelwiseKLLoss', resize='student'),
            dict(TERMS['features'], loss_name='loss_kd'),
        ):
            with pytest.raises(ValueError, match=rf'`{name}` of loss_kd.*head, {told}\. Leave'):
                make_distiller(student=student, distill=[{**entry, name: value}])
        nested = dict(TERMS['balanced'], loss=dict(type='PixelwiseKLLoss', **{name: value}))
        with pytest.raises(ValueError, match=rf'`{name}` of loss_balanced.*head, {told}'):
            make_distiller(student=student, distill=[nested])


TERMS = {
    'logits': dict(type='PixelwiseKLLoss'),
    'features': dict(
        type='FeatureMimickingLoss', student_tap='backbone.layer4', teacher_tap='backbone.layer4'
    ),
    'balanced': dict(type='BalancedLoss', loss=dict(type='PixelwiseKLLoss')),
}


@pytest.mark.parametrize('term', TERMS)
def test_pixels_are_counted_and_resized_as_the_head_does(
    make_distiller, make_segmentor, make_batch, term
):
    """With nothing repeated in `distill`; labels ignored by the head count nowhere."""
    student = make_segmentor(auxiliary=False)
    student['decode_head'].update(ignore_index=4, align_corners=True)
    distiller = make_distiller(student=student, distill=[copy.deepcopy(TERMS[term])])
    loss = distiller.distill_terms[0].loss
    assert (loss.ignore_index, loss.align_corners) == (4, True)
    inputs, samples = make_batch()
    for sample in samples:
        sample.gt_sem_seg.data[:] = 4
        sample.gt_sem_seg.data[..., :16] = 0
    losses = distiller.loss(inputs, samples)
    (share,) = (value for name, value in losses.items() if name.endswith('_valid'))
    assert share.item() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    'entry',
    [
        dict(type='PixelwiseKLLoss', loss_name='loss_feature_loss'),
        dict(type='CrossEntropyLoss'),
        dict(type='LovaszLoss', reduction='none', loss_name='lovasz'),
    ],
)
def test_a_loss_name_that_would_train_what_is_only_watched_is_refused(make_distiller, entry):
    with pytest.raises(ValueError, match=r"of the form 'loss_x'"):
        make_distiller(distill=[dict(entry, loss_name=entry.get('loss_name', 'ce'))])


def test_an_inline_student_takes_the_data_preprocessor_of_the_top_level(
    make_segmentor, save_teacher
):
    student, teacher = make_segmentor(), make_segmentor(depth=34)
    preprocessor = student.pop('data_preprocessor')
    distiller = OfflineDistiller(
        student,
        dict(teacher, checkpoint=save_teacher(teacher)),
        [dict(type='PixelwiseKLLoss')],
        data_preprocessor=preprocessor,
    )
    assert type(distiller.data_preprocessor).__name__ == 'SegDataPreProcessor'
    with pytest.raises(ValueError, match='Put them into its `student`'):
        OfflineDistiller(student, teacher, [dict(type='PixelwiseKLLoss')], train_cfg=dict(a=1))


def test_learning_rates_per_part_are_set_as_for_the_student_alone(make_distiller):
    distiller = make_distiller()
    wrapper = build_optim_wrapper(
        distiller,
        dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.1),
            paramwise_cfg=dict(custom_keys={'decode_head': dict(lr_mult=10.0)}),
        ),
    )
    rates = {
        id(parameter): group['lr']
        for group in wrapper.param_groups
        for parameter in group['params']
    }
    for name, parameter in distiller.named_parameters():
        assert rates[id(parameter)] == pytest.approx(1.0 if 'decode_head' in name else 0.1), name
