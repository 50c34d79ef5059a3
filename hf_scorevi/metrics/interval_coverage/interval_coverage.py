"""`hf_scorevi.metrics.interval_coverage` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

IntervalCoverage = evaluate_module("interval_coverage", __name__)
