# Taught by baseline_deeplabv3plus-mobilenet-v2-d16_1xb8-3k_camvid-256x256; the student is the base below.
_base_ = '../models/fcn-mobilenet-v2-d32_camvid.py'
model = dict(
    _delete_=True,
    type='OfflineDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024.py',
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
        backbone=dict(strides=(1, 2, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 1, 1, 2, 2)),
        decode_head=dict(channels=256, dilations=(1, 3, 6, 9), num_classes=11),
        checkpoint='work_dirs/baseline_deeplabv3plus-mobilenet-v2-d16_1xb8-3k_camvid-256x256/iter_3000.pth',
    ),
)
