"""`hf_scorevi.metrics.adaptive_ece` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

AdaptiveEce = evaluate_module("adaptive_ece", __name__)
