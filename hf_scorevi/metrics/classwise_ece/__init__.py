"""`function.py` has the metric, `classwise_ece.py` its module of `evaluate`, README.md its card."""
