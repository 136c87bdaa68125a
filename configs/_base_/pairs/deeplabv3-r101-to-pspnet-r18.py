# The teacher: mmseg's published weights, 80.20 mIoU on Cityscapes val; downloaded once.
_base_ = '../models/pspnet-r18.py'
model = dict(
    _delete_=True,
    type='OfflineDistiller',
    student=_base_.model,
    teacher=dict(
        config='mmseg::deeplabv3/deeplabv3_r101-d8_4xb2-80k_cityscapes-512x1024.py',
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3/deeplabv3_r101-d8_512x1024_80k_cityscapes/deeplabv3_r101-d8_512x1024_80k_cityscapes_20200606_113503-9e428899.pth',
    ),
)
