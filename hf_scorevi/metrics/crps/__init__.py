"""`function.py` has the metric, `crps.py` its module of `evaluate`, README.md its card."""
