"""Variational inference on a plain log-density: ScoreVI, ADVI, Gaussian score matching, batch and match."""

from .fit import fit
from .flow import FlowResult, fit_flow
from .gaussian import Gaussian
from .result import FitResult

__all__ = ["FitResult", "FlowResult", "Gaussian", "fit", "fit_flow"]
