"""`function.py` has the metric, `brier.py` its module of `evaluate`, README.md its card."""
