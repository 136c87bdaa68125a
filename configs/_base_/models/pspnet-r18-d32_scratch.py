# Output stride 32, BN in place of SyncBN, no ImageNet weights: trains on a CPU without a download.
_base_ = './pspnet-r18.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    pretrained=None,
    backbone=dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), norm_cfg=norm_cfg),
    decode_head=dict(norm_cfg=norm_cfg),
    auxiliary_head=dict(norm_cfg=norm_cfg),
)
