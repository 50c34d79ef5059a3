"""`function.py` has the metric, `nll.py` its module of `evaluate`, README.md its card."""
