"""`hf_scorevi.metrics.aurc` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Aurc = evaluate_module("aurc", __name__)
