"""Distillation losses, registered in mmseg's `MODELS`; they hold settings, `ops` does the maths."""

from balkd_seg.losses.adaptive_kl import AdaptiveKLLoss
from balkd_seg.losses.balanced import BalancedLoss
from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss
from balkd_seg.losses.channelwise_kl import ChannelwiseKLLoss
from balkd_seg.losses.class_correlation import ClassCorrelationLoss
from balkd_seg.losses.decoupled_kl import DecoupledKLLoss
from balkd_seg.losses.jensen_shannon import JensenShannonLoss
from balkd_seg.losses.pixelwise_kl import PixelwiseKLLoss
from balkd_seg.losses.reverse_kl import ReverseKLLoss

__all__ = [
    'AdaptiveKLLoss',
    'BalancedDivergenceLoss',
    'BalancedLoss',
    'ChannelwiseKLLoss',
    'ClassCorrelationLoss',
    'DecoupledKLLoss',
    'JensenShannonLoss',
    'PixelwiseKLLoss',
    'ReverseKLLoss',
]
