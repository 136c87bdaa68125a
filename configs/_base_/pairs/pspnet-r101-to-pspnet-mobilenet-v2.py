# The teacher: mmseg's published weights, 79.76 mIoU on Cityscapes val; downloaded once.
_base_ = '../models/pspnet-mobilenet-v2.py'
model = dict(
    _delete_=True,
    type='OfflineDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_80k_cityscapes/pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth',
    ),
)
