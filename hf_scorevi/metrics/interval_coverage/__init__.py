"""`function.py` has the metric, `interval_coverage.py` its module of `evaluate`, README.md its card."""
