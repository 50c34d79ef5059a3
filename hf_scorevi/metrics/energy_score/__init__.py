"""`function.py` has the metric, `energy_score.py` its module of `evaluate`, README.md its card."""
