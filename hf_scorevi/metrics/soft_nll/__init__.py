"""`function.py` has the metric, `soft_nll.py` its module of `evaluate`, README.md its card."""
