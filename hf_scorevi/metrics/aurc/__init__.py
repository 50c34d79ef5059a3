"""`function.py` has the metric, `aurc.py` its module of `evaluate`, README.md its card."""
