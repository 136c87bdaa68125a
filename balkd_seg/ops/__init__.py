"""Tensor maths of the distillation losses; imports torch only."""

from balkd_seg.ops.balanced_divergence import BalancedDivergence, balanced_divergence

__all__ = ['BalancedDivergence', 'balanced_divergence']
