_base_ = './cpu-2k.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=100, end=3000, by_epoch=False),
]
train_cfg = dict(max_iters=3000, val_interval=250)
