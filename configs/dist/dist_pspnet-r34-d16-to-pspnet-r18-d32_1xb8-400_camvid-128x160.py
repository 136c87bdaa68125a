# Needs data/camvid (data/README.md), and the teacher:
# mim train mmsegmentation configs/baseline/baseline_pspnet-r34-d16_1xb8-800_camvid-128x160.py
# mim train mmsegmentation \
#   configs/dist/dist_pspnet-r34-d16-to-pspnet-r18-d32_1xb8-400_camvid-128x160.py
_base_ = [
    '../_base_/pairs/pspnet-r34-d16-to-pspnet-r18-d32_camvid-scratch.py',
    '../_base_/datasets/camvid-128x160.py',
    '../_base_/schedules/cpu-400.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='ClassCorrelationLoss', inter_weight=1.0, intra_weight=1.0)],
)
train_dataloader = dict(batch_size=8)
