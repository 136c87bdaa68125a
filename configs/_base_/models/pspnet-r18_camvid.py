_base_ = './pspnet-r18.py'
model = dict(decode_head=dict(num_classes=11), auxiliary_head=dict(num_classes=11))
