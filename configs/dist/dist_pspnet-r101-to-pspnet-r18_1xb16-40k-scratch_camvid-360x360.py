# Both networks without ImageNet weights. Needs data/camvid (data/README.md), and the teacher:
# mim train mmsegmentation configs/baseline/baseline_pspnet-r101_1xb16-40k-scratch_camvid-360x360.py
# mim train mmsegmentation \
#   configs/dist/dist_pspnet-r101-to-pspnet-r18_1xb16-40k-scratch_camvid-360x360.py
_base_ = [
    '../_base_/pairs/pspnet-r101-to-pspnet-r18_camvid.py',
    '../_base_/datasets/camvid-360x360.py',
    '../_base_/schedules/cirkd-40k.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(pretrained=None, data_preprocessor=dict(size=_base_.crop_size)),
    teacher=dict(
        checkpoint='work_dirs/baseline_pspnet-r101_1xb16-40k-scratch_camvid-360x360/iter_40000.pth'
    ),
    distill=[dict(type='ClassCorrelationLoss', inter_weight=1.0, intra_weight=1.0, resize='none')],
)
train_dataloader = dict(batch_size=16)
