# Needs data/camvid (data/README.md), and the teacher:
# mim train mmsegmentation configs/baseline/baseline_pspnet-r101_1xb16-40k_camvid-360x360.py
# mim train mmsegmentation configs/cwd/cwd_pspnet-r101-to-pspnet-r18_1xb16-40k_camvid-360x360.py
_base_ = [
    '../_base_/pairs/pspnet-r101-to-pspnet-r18_camvid.py',
    '../_base_/datasets/camvid-360x360.py',
    '../_base_/schedules/cirkd-40k.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='ChannelwiseKLLoss', temperature=4.0, loss_weight=3.0, resize='none')],
)
train_dataloader = dict(batch_size=16)
