"""`hf_scorevi.metrics.classwise_ece` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

ClasswiseEce = evaluate_module("classwise_ece", __name__)
