"""`function.py` has the metric, `mse_mae.py` its module of `evaluate`, README.md its card."""
