# The teacher, CPU size. Needs data/camvid and data/weights (data/README.md).
# mim train mmsegmentation configs/baseline/baseline_deeplabv3plus-mobilenet-v2-d16_1xb8-3k_camvid-256x256.py
_base_ = [
    '../_base_/models/deeplabv3plus-mobilenet-v2-d16_camvid.py',
    '../_base_/datasets/camvid-256x256.py',
    '../_base_/schedules/cpu-3k.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=8)
