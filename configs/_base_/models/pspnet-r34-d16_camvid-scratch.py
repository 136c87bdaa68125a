_base_ = './pspnet-r34-d16_scratch.py'
model = dict(decode_head=dict(num_classes=11), auxiliary_head=dict(num_classes=11))
