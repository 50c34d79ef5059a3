"""`hf_scorevi.metrics.debiased_ece` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

DebiasedEce = evaluate_module("debiased_ece", __name__)
