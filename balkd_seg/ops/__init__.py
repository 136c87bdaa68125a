"""Tensor maths of the distillation losses; imports torch only."""

from balkd_seg.ops.adaptive_kl import AdaptiveKL, adaptive_kl
from balkd_seg.ops.balanced_divergence import BalancedDivergence, balanced_divergence
from balkd_seg.ops.class_correlation import ClassCorrelation, class_correlation
from balkd_seg.ops.decoupled_kl import DecoupledKL, decoupled_kl
from balkd_seg.ops.jensen_shannon import JensenShannon, jensen_shannon

__all__ = [
    'AdaptiveKL',
    'BalancedDivergence',
    'ClassCorrelation',
    'DecoupledKL',
    'JensenShannon',
    'adaptive_kl',
    'balanced_divergence',
    'class_correlation',
    'decoupled_kl',
    'jensen_shannon',
]
