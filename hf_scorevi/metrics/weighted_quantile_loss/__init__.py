"""`function.py` has the metric, `weighted_quantile_loss.py` its module of `evaluate`, README.md its card."""
