"""Whatever a student trains with by itself stays beside distillation: losses, sizes, padding."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

CE = dict(type='CrossEntropyLoss')
DICE = dict(type='DiceLoss', loss_name='loss_dice', loss_weight=3.0)
LOSSES = {
    'a list': dict(loss_decode=[CE, DICE]),
    'two of one name': dict(loss_decode=[CE, dict(CE, loss_weight=0.5)]),
    'hard pixels': dict(sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50)),
    'hard pixels of a list': dict(
        sampler=dict(type='OHEMPixelSampler', min_kept=50), loss_decode=[CE, dict(CE)]
    ),
    'class weights': dict(loss_decode=dict(CE, class_weight=[1.0, 2.0, 0.5, 3.0, 0.1])),
    'another ignored label': dict(ignore_index=4),
}


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('fuse', [False, True])
def test_own_losses_are_the_stock_ones(name, fuse, make_segmentor, make_distiller, make_batch):
    """To the bit where nothing is fused, and with the gradients that they have alone."""
    student = make_segmentor()
    student['decode_head'].update(copy.deepcopy(LOSSES[name]), dropout_ratio=0.0)
    ignored = student['decode_head'].get('ignore_index', 255)
    student['auxiliary_head'].update(dropout_ratio=0.0, ignore_index=ignored)
    distiller = make_distiller(student=student, fuse_task_loss=fuse)
    alone = MODELS.build(copy.deepcopy(student))
    alone.load_state_dict(distiller.state_dict())
    inputs, samples = make_batch()
    for sample in samples:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 255] = ignored
    losses, expected = distiller.loss(inputs, samples), alone.loss(inputs, samples)
    tolerance = dict(rtol=2e-5, atol=1e-6) if fuse else dict(rtol=0, atol=0)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key].view(-1), value.view(-1), **tolerance)
    assert losses['distill.loss_balkd'] > 0
    if not fuse:
        own = sum(losses[key] for key in expected if 'loss' in key)
        own.backward()
        sum(value for key, value in expected.items() if 'loss' in key).backward()
        for mine, theirs in zip(distiller.parameters(), alone.parameters(), strict=True):
            assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize('padding', [dict(size_divisor=32), dict(size=(64, 96))])
def test_padding_counts_nowhere(padding, make_segmentor, make_distiller, make_batch):
    """Images of two sizes are padded to one; the divergence is that of the labelled pixels."""
    student, teacher = make_segmentor(), make_segmentor(depth=34)
    for model in (student, teacher):
        model['data_preprocessor'].pop('size')
        model['data_preprocessor'].update(padding)
    distiller = make_distiller(student=student, teacher=teacher)
    distiller.build_teacher()
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((33, 44), (30, 70))]
    samples = [make_batch(size=1, height=x.shape[1], width=x.shape[2])[1][0] for x in images]
    labelled = sum(int((sample.gt_sem_seg.data != 255).sum()) for sample in samples)
    data = distiller.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    assert data['inputs'].shape == (2, 3, 64, 96)
    losses = distiller.train().loss(data['inputs'], data['data_samples'])
    assert losses['distill.balkd_valid'].item() == pytest.approx(labelled / (2 * 64 * 96))

    target = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
    with torch.no_grad():
        distiller.eval()
        both = [
            F.interpolate(network(data['inputs'], mode='tensor'), (64, 96), mode='bilinear')
            for network in (distiller.student, distiller.teacher.network)
        ]
        value = distiller.loss(data['inputs'], data['data_samples'])['distill.loss_balkd']
    q, p = (logits.log_softmax(1) for logits in both)
    jeffreys = ((p.exp() - q.exp()) * (p - q)).sum(1)
    torch.testing.assert_close(value, jeffreys[target != 255].mean(), rtol=1e-4, atol=1e-6)


def test_predictions_of_padded_images_have_the_size_of_the_image(
    make_segmentor, make_distiller, make_batch
):
    student = make_segmentor()
    student['data_preprocessor'].update(test_cfg=dict(size_divisor=32))
    distiller = make_distiller(student=student).eval()
    _, samples = make_batch(size=1, height=33, width=44)
    image = torch.randint(0, 256, (3, 33, 44), dtype=torch.uint8)
    data = distiller.data_preprocessor(dict(inputs=[image], data_samples=samples), False)
    assert data['inputs'].shape == (1, 3, 64, 64)
    (result,) = distiller(**data, mode='predict')
    assert result.pred_sem_seg.shape == (33, 44)
