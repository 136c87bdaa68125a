"""Hooks: data checks before training, schedules, distiller state in checkpoints."""

from balkd_seg.hooks.check_data import CheckDataHook
from balkd_seg.hooks.distill_schedule import DistillScheduleHook
from balkd_seg.hooks.distill_state import DistillStateHook

__all__ = ['CheckDataHook', 'DistillScheduleHook', 'DistillStateHook']
