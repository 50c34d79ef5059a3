"""`hf_scorevi.metrics.pooled_ece` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

PooledEce = evaluate_module("pooled_ece", __name__)
