# Needs data/cityscapes (data/README.md).
# mim train mmsegmentation \
#   configs/mutual/mutual_pspnet-r101-with-pspnet-r18_4xb4-40k_cityscapes-512x1024.py \
#   --launcher pytorch --gpus 4
_base_ = [
    '../_base_/pairs/pspnet-r101-with-pspnet-r18.py',
    '../_base_/datasets/cityscapes-512x1024_cirkd.py',
    '../_base_/schedules/cirkd-40k.py',
    '../_base_/runtime.py',
    '../_base_/calibration.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[
        dict(type='PixelwiseKLLoss', resize='none'),
        dict(type='PixelwiseKLLoss', learner='teacher', resize='none'),
    ],
)
train_dataloader = dict(batch_size=4)
scores = [_base_.val_evaluator, _base_.calibration]
val_evaluator = dict(_delete_=True, type='NetworksMetric', metric=scores)
test_evaluator = dict(val_evaluator)
default_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
