"""`function.py` has the metric, `mixture_nll.py` its module of `evaluate`, README.md its card."""
