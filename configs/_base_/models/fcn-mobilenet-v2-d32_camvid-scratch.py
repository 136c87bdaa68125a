_base_ = './fcn-mobilenet-v2-d32_camvid.py'
model = dict(backbone=dict(init_cfg=None))
