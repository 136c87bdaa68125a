"""Metrics that mmseg lacks, registered in mmseg's METRICS."""

from balkd_seg.metrics.calibration_metric import CalibrationMetric
from balkd_seg.metrics.networks_metric import NetworksMetric

__all__ = ['CalibrationMetric', 'NetworksMetric']
