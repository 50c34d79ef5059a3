"""`hf_scorevi.metrics.soft_ece` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

SoftEce = evaluate_module("soft_ece", __name__)
