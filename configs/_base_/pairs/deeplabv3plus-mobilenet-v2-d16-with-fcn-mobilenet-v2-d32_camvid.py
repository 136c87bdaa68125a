# Both learn, from ImageNet weights; the student is the base below.
_base_ = '../models/fcn-mobilenet-v2-d32_camvid.py'
model = dict(
    _delete_=True,
    type='MutualDistiller',
    student=_base_.model,
    peers=dict(
        teacher=dict(
            config='mmseg::mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024.py',
            pretrained=None,
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
            backbone=dict(
                strides=(1, 2, 2, 2, 1, 1, 1),
                dilations=(1, 1, 1, 1, 1, 2, 2),
                init_cfg=_base_.model.backbone.init_cfg,
            ),
            decode_head=dict(channels=256, dilations=(1, 3, 6, 9), num_classes=11),
            auxiliary_head=None,
        ),
    ),
)
