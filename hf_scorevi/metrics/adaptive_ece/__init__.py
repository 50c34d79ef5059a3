"""`function.py` has the metric, `adaptive_ece.py` its module of `evaluate`, README.md its card."""
