"""Hooks: data checks before training, distiller state in checkpoints."""

from balkd_seg.hooks.check_data import CheckDataHook
from balkd_seg.hooks.distill_state import DistillStateHook

__all__ = ['CheckDataHook', 'DistillStateHook']
