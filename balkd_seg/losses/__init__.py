"""Distillation losses, registered in mmseg's `MODELS`; they hold settings, `ops` does the maths."""

from balkd_seg.losses.balanced import BalancedLoss
from balkd_seg.losses.balanced_divergence import BalancedDivergenceLoss
from balkd_seg.losses.channelwise_kl import ChannelwiseKLLoss
from balkd_seg.losses.pixelwise_kl import PixelwiseKLLoss
from balkd_seg.losses.reverse_kl import ReverseKLLoss

__all__ = [
    'BalancedDivergenceLoss',
    'BalancedLoss',
    'ChannelwiseKLLoss',
    'PixelwiseKLLoss',
    'ReverseKLLoss',
]
