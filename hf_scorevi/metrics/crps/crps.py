"""`hf_scorevi.metrics.crps` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Crps = evaluate_module("crps", __name__)
