"""`function.py` has the metric, `quantile_calibration_error.py` its module of `evaluate`, README.md its card."""
