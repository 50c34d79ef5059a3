"""`hf_scorevi.metrics.mce` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Mce = evaluate_module("mce", __name__)
