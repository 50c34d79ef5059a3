"""`hf_scorevi.metrics.nll` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Nll = evaluate_module("nll", __name__)
