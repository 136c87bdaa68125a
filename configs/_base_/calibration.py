# Calibration beside mIoU. A config that tests both takes this file as its second base:
#   _base_ = ['my_student.py', 'configs/_base_/calibration.py']
#   val_evaluator = test_evaluator = [_base_.test_evaluator, _base_.calibration]
calibration = dict(type='CalibrationMetric', num_bins=15, binning='equal-width')
