# Both networks without ImageNet weights. Needs data/camvid (data/README.md), and the teacher:
# mim train mmsegmentation configs/baseline/baseline_pspnet-r101_1xb16-40k-scratch_camvid-360x360.py
# mim train mmsegmentation \
#   configs/cwd/cwd_pspnet-r101-to-pspnet-r18_1xb16-40k-scratch_camvid-360x360.py
_base_ = './cwd_pspnet-r101-to-pspnet-r18_1xb16-40k_camvid-360x360.py'
model = dict(
    student=dict(pretrained=None),
    teacher=dict(
        checkpoint='work_dirs/baseline_pspnet-r101_1xb16-40k-scratch_camvid-360x360/iter_40000.pth'
    ),
)
