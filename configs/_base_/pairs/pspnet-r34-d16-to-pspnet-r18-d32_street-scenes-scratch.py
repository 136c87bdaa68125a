# Taught by baseline_pspnet-r34-d16_1xb4-600_street-scenes-128x256; the student is the base below.
_base_ = '../models/pspnet-r18-d32_scratch.py'
model = dict(
    _delete_=True,
    type='OfflineDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
        backbone=dict(depth=34, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
        checkpoint='work_dirs/baseline_pspnet-r34-d16_1xb4-600_street-scenes-128x256/iter_600.pth',
    ),
)
