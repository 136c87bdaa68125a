# Both learn, from scratch; the student is the base below.
_base_ = '../models/pspnet-r18-d32_scratch.py'
model = dict(
    _delete_=True,
    type='MutualDistiller',
    student=_base_.model,
    peers=dict(
        teacher=dict(
            config='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
            pretrained=None,
            backbone=dict(depth=34, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
        ),
    ),
)
