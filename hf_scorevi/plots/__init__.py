"""Pictures of calibration, forecasts and posteriors. matplotlib is optional, imported when a picture is asked for."""

from hf_scorevi.plots._style import COLORS, MARKERS
from hf_scorevi.plots.accuracy_confidence import accuracy_confidence_curve
from hf_scorevi.plots.coverage import coverage_diagram
from hf_scorevi.plots.draws import metrics_by_draws
from hf_scorevi.plots.entropy import entropy_histogram
from hf_scorevi.plots.fan_chart import fan_chart
from hf_scorevi.plots.kinds import KINDS, tensor_kind
from hf_scorevi.plots.pit_histogram import pit_histogram
from hf_scorevi.plots.posterior import posterior_diagram
from hf_scorevi.plots.reliability import reliability_diagram
from hf_scorevi.plots.risk_coverage import risk_coverage_diagram

__all__ = [
    "COLORS",
    "KINDS",
    "MARKERS",
    "accuracy_confidence_curve",
    "coverage_diagram",
    "entropy_histogram",
    "fan_chart",
    "metrics_by_draws",
    "pit_histogram",
    "posterior_diagram",
    "reliability_diagram",
    "risk_coverage_diagram",
    "tensor_kind",
]
