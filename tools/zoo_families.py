"""The networks that `zoo.py` tries: one of each folder of mmseg's configs."""

from typing import Any, NamedTuple


class Family(NamedTuple):
    """What is tried of a folder of mmseg's configs.

    Attributes:
        config: A config in it.
        size: Height and width of the two images.
        shrunk: What is merged into its model, so that a step is short.
    """

    config: str
    size: int = 64
    shrunk: dict[str, Any] = {}  # noqa: RUF012


FOUR_LAYERS = dict(backbone=dict(num_layers=4, out_indices=(0, 1, 2, 3)))
SMALL_BEIT = dict(
    backbone=dict(FOUR_LAYERS['backbone'], img_size=(64, 64)),
    decode_head=dict(channels=64),
    auxiliary_head=dict(channels=64),
)
FAMILIES = {
    'ann': Family('ann_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'apcnet': Family('apcnet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'beit': Family('beit-base_upernet_8xb2-160k_ade20k-640x640', shrunk=SMALL_BEIT),
    'bisenetv1': Family('bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024'),
    'bisenetv2': Family('bisenetv2_fcn_4xb4-ohem-160k_cityscapes-1024x1024'),
    'ccnet': Family('ccnet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'cgnet': Family('cgnet_fcn_4xb4-60k_cityscapes-680x680'),
    'convnext': Family('convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512'),
    'danet': Family('danet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'ddrnet': Family('ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024'),
    'deeplabv3': Family('deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024'),
    'deeplabv3plus': Family('deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024'),
    'dmnet': Family('dmnet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'dnlnet': Family('dnl_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'dpt': Family('dpt_vit-b16_8xb2-160k_ade20k-512x512', shrunk=FOUR_LAYERS),
    'emanet': Family('emanet_r50-d8_4xb2-80k_cityscapes-512x1024'),
    'encnet': Family('encnet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'erfnet': Family('erfnet_fcn_4xb4-160k_cityscapes-512x1024'),
    'fastfcn': Family('fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024'),
    'fastscnn': Family('fast_scnn_8xb4-160k_cityscapes-512x1024'),
    'fcn': Family('fcn_r18-d8_4xb2-80k_cityscapes-512x1024'),
    'gcnet': Family('gcnet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'hrnet': Family('fcn_hr18s_4xb2-40k_cityscapes-512x1024'),
    'icnet': Family('icnet_r18-d8_4xb2-80k_cityscapes-832x832'),
    'isanet': Family('isanet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'knet': Family('knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512'),
    'mae': Family('mae-base_upernet_8xb2-amp-160k_ade20k-512x512', shrunk=SMALL_BEIT),
    'mask2former': Family('mask2former_r50_8xb2-90k_cityscapes-512x1024'),
    'maskformer': Family('maskformer_r50-d32_8xb2-160k_ade20k-512x512'),
    'mobilenet_v2': Family('mobilenet-v2-d8_fcn_4xb2-80k_cityscapes-512x1024'),
    'mobilenet_v3': Family('mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024', size=400),
    'nonlocal_net': Family('nonlocal_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'ocrnet': Family('ocrnet_hr18s_4xb2-40k_cityscapes-512x1024'),
    'pidnet': Family('pidnet-s_2xb6-120k_1024x1024-cityscapes'),
    'point_rend': Family('pointrend_r50_4xb2-80k_cityscapes-512x1024'),
    'poolformer': Family('fpn_poolformer_s12_8xb4-40k_ade20k-512x512'),
    'psanet': Family('psanet_r50-d8_4xb2-40k_cityscapes-512x1024'),
    'pspnet': Family('pspnet_r18-d8_4xb2-80k_cityscapes-512x1024'),
    'resnest': Family('resnest_s101-d8_fcn_4xb2-80k_cityscapes-512x1024'),
    'san': Family('san-vit-b16_voc12aug-640x640'),
    'segformer': Family('segformer_mit-b0_8xb1-160k_cityscapes-1024x1024'),
    'segmenter': Family('segmenter_vit-t_mask_8xb1-160k_ade20k-512x512'),
    'segnext': Family('segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512'),
    'sem_fpn': Family('fpn_r50_4xb2-80k_cityscapes-512x1024'),
    'setr': Family('setr_vit-l_mla_8xb1-80k_cityscapes-768x768', shrunk=FOUR_LAYERS),
    'stdc': Family('stdc1_4xb12-80k_cityscapes-512x1024'),
    'swin': Family('swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512'),
    'twins': Family('twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512'),
    'unet': Family('unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024'),
    'upernet': Family('upernet_r18_4xb2-40k_cityscapes-512x1024'),
    'vit': Family('vit_deit-s16_upernet_8xb2-80k_ade20k-512x512', shrunk=FOUR_LAYERS),
    'vpd': Family('vpd_sd_4xb8-25k_nyu-480x480'),
}
