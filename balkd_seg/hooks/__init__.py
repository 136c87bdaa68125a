"""Hooks: data checks before training, schedules, distiller state in checkpoints, telemetry."""

from balkd_seg.hooks.check_data import CheckDataHook
from balkd_seg.hooks.distill_schedule import DistillScheduleHook
from balkd_seg.hooks.distill_state import DistillStateHook
from balkd_seg.hooks.distill_telemetry import DistillTelemetryHook

__all__ = ['CheckDataHook', 'DistillScheduleHook', 'DistillStateHook', 'DistillTelemetryHook']
