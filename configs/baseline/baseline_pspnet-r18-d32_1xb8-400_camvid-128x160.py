# The student alone, CPU size. Needs data/camvid (data/README.md).
# mim train mmsegmentation configs/baseline/baseline_pspnet-r18-d32_1xb8-400_camvid-128x160.py
_base_ = [
    '../_base_/models/pspnet-r18-d32_camvid-scratch.py',
    '../_base_/datasets/camvid-128x160.py',
    '../_base_/schedules/cpu-400.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=8)
