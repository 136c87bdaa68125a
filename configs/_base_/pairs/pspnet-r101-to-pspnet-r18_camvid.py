# Taught by baseline_pspnet-r101_1xb16-40k_camvid-360x360; the student is the base below.
_base_ = '../models/pspnet-r18_camvid.py'
model = dict(
    _delete_=True,
    type='OfflineDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        decode_head=dict(num_classes=11),
        checkpoint='work_dirs/baseline_pspnet-r101_1xb16-40k_camvid-360x360/iter_40000.pth',
    ),
)
