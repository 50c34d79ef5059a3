"""`function.py` has the metric, `accuracy.py` its module of `evaluate`, README.md its card."""
