# Needs data/cityscapes (data/README.md); the teacher is downloaded.
# mim train mmsegmentation \
#   configs/dist/dist_pspnet-r101-to-pspnet-r18_4xb4-40k_cityscapes-512x1024.py \
#   --launcher pytorch --gpus 4
_base_ = [
    '../_base_/pairs/pspnet-r101-to-pspnet-r18.py',
    '../_base_/datasets/cityscapes-512x1024_cirkd.py',
    '../_base_/schedules/cirkd-40k.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='ClassCorrelationLoss', inter_weight=1.0, intra_weight=1.0, resize='none')],
)
train_dataloader = dict(batch_size=4)
