# The student alone, mmseg protocol. Needs data/cityscapes (data/README.md).
# mim train mmsegmentation \
#   configs/baseline/baseline_segformer-mit-b0_8xb1-160k_cityscapes-1024x1024.py \
#   --launcher pytorch --gpus 8
_base_ = [
    '../_base_/models/segformer-mit-b0.py',
    '../_base_/datasets/cityscapes-1024x1024.py',
    '../_base_/schedules/segformer-160k.py',
    '../_base_/runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=1)
