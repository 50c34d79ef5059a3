"""`function.py` has the metric, `ood_detection.py` its module of `evaluate`, README.md its card."""
