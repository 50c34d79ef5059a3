"""`function.py` has the metric, `pooled_ece.py` its module of `evaluate`, README.md its card."""
