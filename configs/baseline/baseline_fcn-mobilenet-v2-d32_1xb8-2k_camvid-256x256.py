# The student alone, CPU size. Needs data/camvid and data/weights (data/README.md).
# mim train mmsegmentation configs/baseline/baseline_fcn-mobilenet-v2-d32_1xb8-2k_camvid-256x256.py
_base_ = [
    '../_base_/models/fcn-mobilenet-v2-d32_camvid.py',
    '../_base_/datasets/camvid-256x256.py',
    '../_base_/schedules/cpu-2k.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=8)
