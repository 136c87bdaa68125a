# Both learn, from ImageNet weights; the student is the base below.
_base_ = '../models/pspnet-r18_camvid.py'
model = dict(
    _delete_=True,
    type='MutualDistiller',
    student=_base_.model,
    peers=dict(
        teacher=dict(
            config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
            decode_head=dict(num_classes=11),
            auxiliary_head=dict(num_classes=11),
        ),
    ),
)
