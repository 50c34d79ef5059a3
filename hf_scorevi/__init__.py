"""Bayesian fine-tuning of Hugging Face models by score-matching variational inference."""

from .errors import NonFiniteLossError, PosteriorCheckpointError, PushError
from .modeling import BayesianModel, PredictiveOutput
from .posterior import PosteriorConfig
from .training import ScoreVITrainer, ScoreVITrainingArguments

__version__ = "0.1.0"

__all__ = [
    "BayesianModel",
    "NonFiniteLossError",
    "PosteriorCheckpointError",
    "PosteriorConfig",
    "PredictiveOutput",
    "PushError",
    "ScoreVITrainer",
    "ScoreVITrainingArguments",
]
