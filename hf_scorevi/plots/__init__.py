"""Pictures of calibration and of posteriors. matplotlib is optional and is imported when a picture is asked for."""

from hf_scorevi.plots._style import COLORS, MARKERS
from hf_scorevi.plots.accuracy_confidence import accuracy_confidence_curve
from hf_scorevi.plots.draws import metrics_by_draws
from hf_scorevi.plots.entropy import entropy_histogram
from hf_scorevi.plots.kinds import KINDS, tensor_kind
from hf_scorevi.plots.posterior import posterior_diagram
from hf_scorevi.plots.reliability import reliability_diagram
from hf_scorevi.plots.risk_coverage import risk_coverage_diagram

__all__ = [
    "COLORS",
    "KINDS",
    "MARKERS",
    "accuracy_confidence_curve",
    "entropy_histogram",
    "metrics_by_draws",
    "posterior_diagram",
    "reliability_diagram",
    "risk_coverage_diagram",
    "tensor_kind",
]
