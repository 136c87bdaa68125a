# mmseg's pspnet_r101-d8: output stride 8, ImageNet weights, 19 classes. Configs set the crop size.
_base_ = 'mmseg::_base_/models/pspnet_r50-d8.py'
model = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))
