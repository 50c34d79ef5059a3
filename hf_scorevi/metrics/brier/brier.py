"""`hf_scorevi.metrics.brier` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Brier = evaluate_module("brier", __name__)
