"""`function.py` has the metric, `predictive_uncertainty.py` its module of `evaluate`, README.md its card."""
