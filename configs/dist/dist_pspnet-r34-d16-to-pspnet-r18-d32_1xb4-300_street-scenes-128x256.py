# Needs data/street_scenes (tools/make_street_scenes.py), and the teacher:
# mim train mmsegmentation \
#   configs/baseline/baseline_pspnet-r34-d16_1xb4-600_street-scenes-128x256.py
# mim train mmsegmentation \
#   configs/dist/dist_pspnet-r34-d16-to-pspnet-r18-d32_1xb4-300_street-scenes-128x256.py
_base_ = [
    '../_base_/pairs/pspnet-r34-d16-to-pspnet-r18-d32_street-scenes-scratch.py',
    '../_base_/datasets/street-scenes-128x256.py',
    '../_base_/schedules/cpu-300.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='ClassCorrelationLoss', inter_weight=1.0, intra_weight=1.0)],
)
train_dataloader = dict(batch_size=4)
