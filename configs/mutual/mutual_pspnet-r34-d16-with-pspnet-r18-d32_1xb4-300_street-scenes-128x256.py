# Needs data/street_scenes (tools/make_street_scenes.py).
# mim train mmsegmentation \
#   configs/mutual/mutual_pspnet-r34-d16-with-pspnet-r18-d32_1xb4-300_street-scenes-128x256.py
_base_ = [
    '../_base_/pairs/pspnet-r34-d16-with-pspnet-r18-d32_street-scenes-scratch.py',
    '../_base_/datasets/street-scenes-128x256.py',
    '../_base_/schedules/cpu-300.py',
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
train_dataloader = dict(batch_size=4)
scores = [_base_.val_evaluator, _base_.calibration]
val_evaluator = dict(_delete_=True, type='NetworksMetric', metric=scores)
test_evaluator = dict(val_evaluator)
