# Needs data/camvid (data/README.md), and the teacher:
# mim train mmsegmentation configs/baseline/baseline_pspnet-r34-d16_1xb8-800_camvid-128x160.py
# mim train mmsegmentation \
#   configs/at/at_pspnet-r34-d16-to-pspnet-r18-d32_1xb8-400_camvid-128x160.py
_base_ = [
    '../_base_/pairs/pspnet-r34-d16-to-pspnet-r18-d32_camvid-scratch.py',
    '../_base_/datasets/camvid-128x160.py',
    '../_base_/schedules/cpu-400.py',
    '../_base_/runtime.py',
]
model = dict(
    student=dict(data_preprocessor=dict(size=_base_.crop_size)),
    distill=[
        dict(
            type='AttentionTransferLoss', loss_name='loss_at3',
            student_tap='backbone.layer3', teacher_tap='backbone.layer3',
        ),
        dict(
            type='AttentionTransferLoss', loss_name='loss_at4',
            student_tap='backbone.layer4', teacher_tap='backbone.layer4',
        ),
    ],
)  # fmt: skip
train_dataloader = dict(batch_size=8)
