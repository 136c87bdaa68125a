# Needs data/cityscapes (data/README.md); the teacher is downloaded.
# mim train mmsegmentation \
#   configs/kd/kd_segformer-mit-b5-to-segformer-mit-b0_8xb1-160k_cityscapes-1024x1024.py \
#   --launcher pytorch --gpus 8
_base_ = [
    '../_base_/pairs/segformer-mit-b5-to-segformer-mit-b0.py',
    '../_base_/datasets/cityscapes-1024x1024.py',
    '../_base_/schedules/segformer-160k.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='PixelwiseKLLoss', temperature=1.0, loss_weight=1.0)],
)
train_dataloader = dict(batch_size=1)
