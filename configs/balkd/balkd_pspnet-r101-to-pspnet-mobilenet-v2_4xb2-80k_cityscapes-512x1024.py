# Needs data/cityscapes (data/README.md); the teacher is downloaded.
# mim train mmsegmentation \
#   configs/balkd/balkd_pspnet-r101-to-pspnet-mobilenet-v2_4xb2-80k_cityscapes-512x1024.py \
#   --launcher pytorch --gpus 4
_base_ = [
    '../_base_/pairs/pspnet-r101-to-pspnet-mobilenet-v2.py',
    '../_base_/datasets/cityscapes-512x1024.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='BalancedDivergenceLoss', forward_weight=1.0, reverse_weight=1.0)],
)
train_dataloader = dict(batch_size=2)
