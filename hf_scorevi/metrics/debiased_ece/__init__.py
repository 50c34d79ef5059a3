"""`function.py` has the metric, `debiased_ece.py` its module of `evaluate`, README.md its card."""
