"""`function.py` has the metric, `ece.py` its module of `evaluate`, README.md its card."""
