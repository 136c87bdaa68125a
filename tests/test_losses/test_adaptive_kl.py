"""`AdaptiveKLLoss` hands its settings to the operation."""

from balkd_seg.ops import adaptive_kl


def test_module(check_module):
    check_module(
        'AdaptiveKLLoss',
        adaptive_kl,
        settings=dict(head_mass=0.8, temperature=3.0),
        defaults=dict(head_mass=0.5, temperature=1.0, loss_weight=1.0, loss_name='loss_akl'),
        refused=[(dict(head_mass=0), '`head_mass` .* got 0'), (dict(temperature=0), '`temperat')],
    )
