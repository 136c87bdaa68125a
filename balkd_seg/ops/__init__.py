"""Tensor maths of the distillation losses; imports torch only."""

from balkd_seg.ops.adaptive_kl import AdaptiveKL, adaptive_kl
from balkd_seg.ops.attention_transfer import AttentionTransfer, attention_transfer
from balkd_seg.ops.balanced_divergence import BalancedDivergence, balanced_divergence
from balkd_seg.ops.class_correlation import ClassCorrelation, class_correlation
from balkd_seg.ops.cross_image_relation import CrossImageRelation, cross_image_relation
from balkd_seg.ops.decoupled_kl import DecoupledKL, decoupled_kl
from balkd_seg.ops.feature_mimicking import FeatureMimicking, feature_mimicking
from balkd_seg.ops.jensen_shannon import JensenShannon, jensen_shannon

__all__ = [
    'AdaptiveKL',
    'AttentionTransfer',
    'BalancedDivergence',
    'ClassCorrelation',
    'CrossImageRelation',
    'DecoupledKL',
    'FeatureMimicking',
    'JensenShannon',
    'adaptive_kl',
    'attention_transfer',
    'balanced_divergence',
    'class_correlation',
    'cross_image_relation',
    'decoupled_kl',
    'feature_mimicking',
    'jensen_shannon',
]
