_base_ = './pspnet-r101.py'
model = dict(decode_head=dict(num_classes=11), auxiliary_head=dict(num_classes=11))
