"""`ClassCorrelationLoss` hands its settings to the operation, and has no direction to balance."""

import pytest
from mmseg.registry import MODELS

from balkd_seg.ops import class_correlation


def test_module(check_module):
    weights = dict(inter_weight=1.0, intra_weight=1.0, temperature=1.0)
    check_module(
        'ClassCorrelationLoss',
        class_correlation,
        settings=dict(inter_weight=0.5, intra_weight=2.0, temperature=3.0),
        defaults=dict(**weights, loss_weight=1.0, loss_name='loss_dist'),
        refused=[
            (dict(intra_weight=-1), '`intra_weight` .* got -1'),
            (
                dict(inter_weight=0, intra_weight=0),
                '`inter_weight` or .* both are 0',
            ),
            (dict(temperature=0), '`temperature`'),
        ],
    )


def test_it_is_balanced_by_another_entry():
    with pytest.raises(ValueError, match=r'got ClassCorrelationLoss.* add a Balanced'):
        MODELS.build(dict(type='BalancedLoss', loss=dict(type='ClassCorrelationLoss')))
