"""Distillation losses, registered in mmseg's `MODELS`; they hold settings, `ops` does the maths."""

from balkd_seg.losses.adaptive_kl import AdaptiveKLLoss
from balkd_seg.losses.attention_transfer import AttentionTransferLoss
from balkd_seg.losses.balanced import BalancedLoss
from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss
from balkd_seg.losses.channelwise_kl import ChannelwiseKLLoss
from balkd_seg.losses.class_correlation import ClassCorrelationLoss
from balkd_seg.losses.cross_image_relation import CrossImageRelationLoss
from balkd_seg.losses.decoupled_kl import DecoupledKLLoss
from balkd_seg.losses.feature_mimicking import FeatureMimickingLoss
from balkd_seg.losses.jensen_shannon import JensenShannonLoss
from balkd_seg.losses.pixelwise_kl import PixelwiseKLLoss
from balkd_seg.losses.reverse_kl import ReverseKLLoss

__all__ = [
    'AdaptiveKLLoss',
    'AttentionTransferLoss',
    'BalancedDivergenceLoss',
    'BalancedLoss',
    'ChannelwiseKLLoss',
    'ClassCorrelationLoss',
    'CrossImageRelationLoss',
    'DecoupledKLLoss',
    'FeatureMimickingLoss',
    'JensenShannonLoss',
    'PixelwiseKLLoss',
    'ReverseKLLoss',
]
