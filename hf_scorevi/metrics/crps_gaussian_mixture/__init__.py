"""`function.py` has the metric, `crps_gaussian_mixture.py` its module of `evaluate`, README.md its card."""
