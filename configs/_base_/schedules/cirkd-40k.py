# The CIRKD protocol, for a total batch of 16; keeps the best checkpoint on val beside the last.
_base_ = 'mmseg::_base_/schedules/schedule_40k.py'
optim_wrapper = dict(optimizer=dict(lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=40000, by_epoch=False)]
train_cfg = dict(val_interval=800)
default_hooks = dict(checkpoint=dict(interval=800, max_keep_ckpts=1, save_best='mIoU'))
