"""`JensenShannonLoss` hands its settings to the operation."""

from balkd_seg.ops import jensen_shannon


def test_module(check_module):
    check_module(
        'JensenShannonLoss',
        jensen_shannon,
        settings=dict(beta=0.2, temperature=3.0),
        defaults=dict(beta=0.5, temperature=1.0, loss_weight=1.0, loss_name='loss_jsd'),
        refused=[(dict(beta=1.0), '`beta` .* but got 1.0'), (dict(temperature=0), '`temperature`')],
    )
