"""`AttentionTransferLoss` hands its settings to the operation."""

from balkd_seg.ops import attention_transfer


def test_module(check_module):
    check_module(
        'AttentionTransferLoss',
        attention_transfer,
        settings={},
        defaults=dict(resize='student', loss_weight=2.5, loss_name='loss_at'),
        refused=[],
        channels=(5, 7),
    )
