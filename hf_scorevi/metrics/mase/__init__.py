"""`function.py` has the metric, `mase.py` its module of `evaluate`, README.md its card."""
