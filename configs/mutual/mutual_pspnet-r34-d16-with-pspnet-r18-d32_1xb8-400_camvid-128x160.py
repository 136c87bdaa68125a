# Needs data/camvid (data/README.md).
# mim train mmsegmentation \
#   configs/mutual/mutual_pspnet-r34-d16-with-pspnet-r18-d32_1xb8-400_camvid-128x160.py
_base_ = [
    '../_base_/pairs/pspnet-r34-d16-with-pspnet-r18-d32_camvid-scratch.py',
    '../_base_/datasets/camvid-128x160.py',
    '../_base_/schedules/cpu-400.py',
    '../_base_/runtime.py',
    '../_base_/calibration.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[
        dict(type='PixelwiseKLLoss'),
        dict(type='PixelwiseKLLoss', learner='teacher'),
    ],
)
train_dataloader = dict(batch_size=8)
scores = [_base_.val_evaluator, _base_.calibration]
val_evaluator = dict(_delete_=True, type='NetworksMetric', metric=scores)
test_evaluator = dict(val_evaluator)
