"""`function.py` has the metric, `soft_ece.py` its module of `evaluate`, README.md its card."""
