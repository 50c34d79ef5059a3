"""`function.py` has the metric, `mce.py` its module of `evaluate`, README.md its card."""
