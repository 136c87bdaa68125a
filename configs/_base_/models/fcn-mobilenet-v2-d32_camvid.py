# The student for a CPU: MobileNetV2 at output stride 32 and one convolution, which also sees stride 8, as thin classes
# need. Where its ImageNet weights come from, and why mean and deviation are 127.5: data/README.md, Weights.
_base_ = 'mmseg::_base_/models/fcn_r50-d8.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 2, 1, 2, 1),
        dilations=(1, 1, 1, 1, 1, 1, 1),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='data/weights/mobilenet-v2_imagenet.pth'),
    ),
    decode_head=dict(
        in_index=(1, 3),
        in_channels=(32, 320),
        input_transform='resize_concat',
        channels=64,
        num_convs=1,
        concat_input=False,
        num_classes=11,
        norm_cfg=norm_cfg,
    ),
    auxiliary_head=None,
)
