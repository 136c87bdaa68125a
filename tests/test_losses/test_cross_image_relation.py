"""`CrossImageRelationLoss` hands its settings to the operation, and can be balanced."""

import torch
from mmseg.registry import MODELS

from balkd_seg.ops import cross_image_relation


def test_module(check_module):
    defaults = dict(temperature=0.1, pool=1, resize='student', loss_weight=1.0)
    check_module(
        'CrossImageRelationLoss',
        cross_image_relation,
        settings=dict(temperature=0.5, pool=2),
        defaults=dict(**defaults, loss_name='loss_cirkd'),
        refused=[(dict(temperature=0), '`temperature`'), (dict(pool=0), '`pool` .* got 0')],
        channels=(5, 7),
    )


def test_it_has_a_direction():
    student, teacher = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 7, 6, 8)
    loss = MODELS.build(dict(type='BalancedLoss', loss=dict(type='CrossImageRelationLoss')))
    result = loss(student, teacher, torch.zeros(2, 12, 16).long())
    small = torch.nn.functional.interpolate(teacher, (3, 4), mode='bilinear')
    torch.testing.assert_close(result.reverse, cross_image_relation(small, student).loss.detach())
    torch.testing.assert_close(result.loss.detach(), result.forward + result.reverse)
