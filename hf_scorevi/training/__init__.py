"""`ScoreVITrainer` and its arguments: the only place that knows Trainer and Accelerate."""

from .arguments import ScoreVITrainingArguments
from .trainer import ScoreVITrainer

__all__ = ["ScoreVITrainer", "ScoreVITrainingArguments"]
