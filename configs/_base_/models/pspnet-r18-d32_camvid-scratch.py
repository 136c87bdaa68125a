_base_ = './pspnet-r18-d32_scratch.py'
model = dict(decode_head=dict(num_classes=11), auxiliary_head=dict(num_classes=11))
