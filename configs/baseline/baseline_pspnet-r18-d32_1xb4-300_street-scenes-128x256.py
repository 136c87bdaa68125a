# The student alone, CPU size. Needs data/street_scenes (tools/make_street_scenes.py).
# mim train mmsegmentation \
#   configs/baseline/baseline_pspnet-r18-d32_1xb4-300_street-scenes-128x256.py
_base_ = [
    '../_base_/models/pspnet-r18-d32_scratch.py',
    '../_base_/datasets/street-scenes-128x256.py',
    '../_base_/schedules/cpu-300.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=4)
