"""`function.py` has the metric, `msis.py` its module of `evaluate`, README.md its card."""
