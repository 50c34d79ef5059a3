"""`PosteriorTrainer`: a `Trainer` whose model carries a posterior."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import EvalLoopOutput

from ..hub import StoredPosterior, save_posterior
from ..posterior import Posterior, draw_seed
from ..predictive import OutputAverage, PredictiveAverage
from .arguments import ScoreVITrainingArguments
from .checkpointing import load_posterior_into, load_weights
from .evaluation import CalibrationMetrics, is_classification

__all__ = ["PosteriorTrainer"]


class PosteriorTrainer(Trainer):
    """
    Evaluates the posterior predictive, and saves and loads mean and posterior together. How the posterior is learned
    is its subclass's business (`ScoreVITrainer`).

    Attributes:
        posterior: the live `Posterior`, whose mean is the model's weights.
    """

    args: ScoreVITrainingArguments
    model: nn.Module
    posterior: Posterior

    def __init__(
        self,
        *args: Any,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["compute_metrics"] = CalibrationMetrics(compute_metrics)
        kwargs["preprocess_logits_for_metrics"] = _keeping_outputs(preprocess_logits_for_metrics)
        super().__init__(*args, **kwargs)

    @abstractmethod
    def _stored_posterior(self) -> StoredPosterior:
        """What is recorded with the posterior: how it was learned."""

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """
        The outputs of a batch as a pair: of the predictive, and of the mean. For a classifier the predictive's are log
        probabilities and the loss their NLL; otherwise outputs and loss are averaged over draws (for several labels
        an example the probabilities are averaged, and given as logits).

        Draws depend on `args.seed` and their number alone: every batch sees the same weights.
        """
        _, outputs, labels = super().prediction_step(model, inputs, False, ignore_keys)
        mean = _first(outputs)
        problem = getattr(getattr(self.model, "config", None), "problem_type", None)
        exclusive_classes = problem not in ("regression", "multi_label_classification")
        average: PredictiveAverage | OutputAverage
        if exclusive_classes and is_classification(mean, labels):
            average = PredictiveAverage()
        else:
            average = OutputAverage(probabilities=problem == "multi_label_classification")
        losses = []
        for draw in range(self.args.eval_num_samples):
            with self.posterior.sampled(draw_seed(self.args.seed, draw)):
                loss, outputs, _ = super().prediction_step(model, inputs, False, ignore_keys)
            average.add(_first(outputs))
            if loss is not None:
                losses.append(loss)
        if labels is not None and isinstance(average, PredictiveAverage):
            loss = nn.functional.nll_loss(average.outputs, labels)
        else:
            loss = torch.stack(losses).mean() if losses else None
        return (loss, None, None) if prediction_loss_only else (loss, (average.outputs, mean), labels)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As `Trainer`'s; `predictions` are the predictive's alone."""
        output = super().evaluation_loop(*args, **kwargs)
        if isinstance(output.predictions, tuple):
            # (predictive, mean), and what the user's preprocess_logits_for_metrics made, if there is one
            gathered: Sequence[Any] = output.predictions
            output = output._replace(predictions=gathered[0] if len(gathered) == 2 else gathered[2])
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        output_dir = output_dir or self.args.output_dir or "."
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            save_posterior(output_dir, model, self.posterior, self._stored_posterior())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not load_weights(model or self.model, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        checkpoint = self.state.best_model_checkpoint
        assert checkpoint is not None
        if not load_weights(self.model, checkpoint):
            super()._load_best_model()
        # The best mean with the last posterior would be no posterior of anything.
        load_posterior_into(self.posterior, checkpoint, self.model)


def _keeping_outputs(preprocess: Callable[[Tensor, Tensor], Any] | None) -> Callable[..., Any] | None:
    """The user's hook sees the predictive's outputs; our metrics still need what it was given."""
    if preprocess is None:
        return None
    return lambda outputs, labels: (*outputs, preprocess(outputs[0], labels))


def _first(outputs: Any) -> Tensor:
    """The logits among a model's outputs, which come first."""
    return outputs[0] if isinstance(outputs, tuple | list) else outputs
