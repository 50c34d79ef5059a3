"""`hf_scorevi.metrics.accuracy` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Accuracy = evaluate_module("accuracy", __name__)
