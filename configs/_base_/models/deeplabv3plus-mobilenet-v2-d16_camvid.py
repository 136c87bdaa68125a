# The teacher for a CPU: output stride 16; the skip from stride 4 is what thin classes need. Weights as the student's.
_base_ = 'mmseg::_base_/models/deeplabv3plus_r50-d8.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/mobilenet-v2_imagenet.pth'),
    ),
    decode_head=dict(
        in_channels=320,
        channels=256,
        dilations=(1, 3, 6, 9),  # a crop of 256 has 16 cells a side
        c1_in_channels=24,
        c1_channels=48,
        num_classes=11,
        norm_cfg=norm_cfg,
    ),
    auxiliary_head=None,
)
