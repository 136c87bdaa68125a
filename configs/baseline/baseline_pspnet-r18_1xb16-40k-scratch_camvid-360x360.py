# Without ImageNet weights. Needs data/camvid (data/README.md).
# mim train mmsegmentation configs/baseline/baseline_pspnet-r18_1xb16-40k-scratch_camvid-360x360.py
_base_ = './baseline_pspnet-r18_1xb16-40k_camvid-360x360.py'
model = dict(pretrained=None)
