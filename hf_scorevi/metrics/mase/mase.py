"""`hf_scorevi.metrics.mase` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Mase = evaluate_module("mase", __name__)
