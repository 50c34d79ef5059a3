"""Bayesian fine-tuning of Hugging Face models by score-matching variational inference."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import NonFiniteLossError, PosteriorCheckpointError, PushError

if TYPE_CHECKING:
    from .metrics.loading import load_metric
    from .modeling import BayesianModel
    from .pipelines import (
        BayesianAudioClassificationPipeline,
        BayesianImageClassificationPipeline,
        BayesianTextClassificationPipeline,
        BayesianTokenClassificationPipeline,
        ForecastingPipeline,
    )
    from .posterior import PosteriorConfig
    from .predictive import ForecastOutput, PredictiveOutput, RegressionOutput
    from .training import ScoreVITrainer, ScoreVITrainingArguments

__version__ = "0.1.0"

__all__ = [
    "BayesianAudioClassificationPipeline",
    "BayesianImageClassificationPipeline",
    "BayesianModel",
    "BayesianTextClassificationPipeline",
    "BayesianTokenClassificationPipeline",
    "ForecastOutput",
    "ForecastingPipeline",
    "NonFiniteLossError",
    "PosteriorCheckpointError",
    "PosteriorConfig",
    "PredictiveOutput",
    "PushError",
    "RegressionOutput",
    "ScoreVITrainer",
    "ScoreVITrainingArguments",
    "load_metric",
]

# Imported at the first access: `hf-scorevi --help` need not wait for torch and transformers.
_HOMES = {
    "BayesianAudioClassificationPipeline": "pipelines",
    "BayesianImageClassificationPipeline": "pipelines",
    "BayesianModel": "pipelines",  # importing it also registers its pipelines
    "BayesianTextClassificationPipeline": "pipelines",
    "BayesianTokenClassificationPipeline": "pipelines",
    "ForecastOutput": "predictive",
    "ForecastingPipeline": "pipelines",
    "PosteriorConfig": "posterior",
    "PredictiveOutput": "predictive",
    "RegressionOutput": "predictive",
    "ScoreVITrainer": "training",
    "ScoreVITrainingArguments": "training",
    "load_metric": "metrics.loading",
}
_PACKAGES = (
    "acquisition",
    "blackbox",
    "conformal",
    "evaluation",
    "hub",
    "inference",
    "metrics",
    "models",
    "ood",
    "pipelines",
    "plots",
    "posterior",
    "posthoc",
    "predictive",
    "time_series",
    "training",
)

if not TYPE_CHECKING:  # mypy would accept every name

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return import_module(f".{name}", __name__)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
