"""`hf_scorevi.metrics.ece` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Ece = evaluate_module("ece", __name__)
