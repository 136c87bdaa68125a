# The student alone, CIRKD protocol. Needs data/cityscapes (data/README.md).
# mim train mmsegmentation configs/baseline/baseline_pspnet-r18_4xb4-40k_cityscapes-512x1024.py \
#   --launcher pytorch --gpus 4
_base_ = [
    '../_base_/models/pspnet-r18.py',
    '../_base_/datasets/cityscapes-512x1024_cirkd.py',
    '../_base_/schedules/cirkd-40k.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=4)
