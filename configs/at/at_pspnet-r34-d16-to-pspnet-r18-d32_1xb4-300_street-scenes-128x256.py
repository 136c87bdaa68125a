# Needs data/street_scenes (tools/make_street_scenes.py), and the teacher:
# mim train mmsegmentation \
#   configs/baseline/baseline_pspnet-r34-d16_1xb4-600_street-scenes-128x256.py
# mim train mmsegmentation \
#   configs/at/at_pspnet-r34-d16-to-pspnet-r18-d32_1xb4-300_street-scenes-128x256.py
_base_ = [
    '../_base_/pairs/pspnet-r34-d16-to-pspnet-r18-d32_street-scenes-scratch.py',
    '../_base_/datasets/street-scenes-128x256.py',
    '../_base_/schedules/cpu-300.py',
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
train_dataloader = dict(batch_size=4)
