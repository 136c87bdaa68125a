# The student alone. Needs data/camvid (data/README.md).
# mim train mmsegmentation configs/baseline/baseline_pspnet-r18_1xb16-40k_camvid-360x360.py
_base_ = [
    '../_base_/models/pspnet-r18_camvid.py',
    '../_base_/datasets/camvid-360x360.py',
    '../_base_/schedules/cirkd-40k.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=16)
