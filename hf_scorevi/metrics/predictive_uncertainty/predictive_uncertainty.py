"""`hf_scorevi.metrics.predictive_uncertainty` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

PredictiveUncertainty = evaluate_module("predictive_uncertainty", __name__)
