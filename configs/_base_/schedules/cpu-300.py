_base_ = './cpu-400.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=40, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=40, end=300, by_epoch=False),
]
train_cfg = dict(max_iters=300, val_interval=300)
