"""`hf_scorevi.metrics.ood_detection` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

OodDetection = evaluate_module("ood_detection", __name__)
