"""`FeatureMimickingLoss` hands its settings to the operation."""

from balkd_seg.ops import feature_mimicking


def test_module(check_module):
    check_module(
        'FeatureMimickingLoss',
        feature_mimicking,
        settings={},
        defaults=dict(resize='student', loss_weight=10.0, loss_name='loss_fitnet'),
        refused=[],
        channels=(5, 5),
    )
