"""`hf_scorevi.metrics.quantile_calibration_error` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

QuantileCalibrationError = evaluate_module("quantile_calibration_error", __name__)
