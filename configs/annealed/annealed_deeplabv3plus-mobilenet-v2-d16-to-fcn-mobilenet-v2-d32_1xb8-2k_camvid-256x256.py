# Needs data/camvid and data/weights (data/README.md), and the teacher:
# mim train mmsegmentation configs/baseline/baseline_deeplabv3plus-mobilenet-v2-d16_1xb8-3k_camvid-256x256.py
# mim train mmsegmentation \
#   configs/annealed/annealed_deeplabv3plus-mobilenet-v2-d16-to-fcn-mobilenet-v2-d32_1xb8-2k_camvid-256x256.py
_base_ = [
    '../_base_/pairs/deeplabv3plus-mobilenet-v2-d16-to-fcn-mobilenet-v2-d32_camvid.py',
    '../_base_/datasets/camvid-256x256.py',
    '../_base_/schedules/cpu-2k.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[dict(type='BalancedDivergenceLoss', anneal=True, loss_name='loss_annealed')],
)
train_dataloader = dict(batch_size=8)
