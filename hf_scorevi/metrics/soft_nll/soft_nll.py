"""`hf_scorevi.metrics.soft_nll` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

SoftNll = evaluate_module("soft_nll", __name__)
