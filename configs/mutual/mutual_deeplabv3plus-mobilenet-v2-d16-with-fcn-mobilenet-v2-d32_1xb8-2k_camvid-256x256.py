# Needs data/camvid and data/weights (data/README.md).
# mim train mmsegmentation \
#   configs/mutual/mutual_deeplabv3plus-mobilenet-v2-d16-with-fcn-mobilenet-v2-d32_1xb8-2k_camvid-256x256.py
_base_ = [
    '../_base_/pairs/deeplabv3plus-mobilenet-v2-d16-with-fcn-mobilenet-v2-d32_camvid.py',
    '../_base_/datasets/camvid-256x256.py',
    '../_base_/schedules/cpu-2k.py',
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
