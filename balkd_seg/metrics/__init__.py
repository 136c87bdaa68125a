"""Metrics that mmseg lacks, registered in mmseg's METRICS."""

from balkd_seg.metrics.calibration_metric import CalibrationMetric

__all__ = ['CalibrationMetric']
