"""`EvaluatingTrainer`: a `Trainer` that evaluates the predictive of a model with a posterior."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers.trainer_pt_utils import nested_detach
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, SchedulerType, default_compute_objective
from transformers.utils import logging

from ..batch_norm import RunningStatistics, has_running_statistics, kept_running_statistics
from ..errors import InputError
from ..heads import Head, base_of, find_head
from ..hub import Evaluation, describe_data
from ..posterior import Posterior, PosteriorConfig, draw_seed
from ..posthoc import Recalibration
from ..predictive import (
    GaussianNoise,
    Keep,
    PredictiveOutput,
    RegressionOutput,
    SpanOutput,
    expectation_and_log_density,
)
from ..twin import Kept, Twins, derive_anew
from .best_metric import settle_direction
from .distributed import reshard
from .evaluation import EvaluationRun, draw_counts
from .likelihood import Likelihood
from .own_loss import is_packaged
from .pushing import PushingTrainer
from .standing import Weights, refusing_calls
from .training_data import gather_statistics, measure_noise, training_batches

__all__ = ["EvaluatingTrainer", "PosteriorPrediction"]

logger = logging.get_logger(__name__)

_NOISE_DRAWS = 4  # by which the noise of the predictive is measured


class PosteriorPrediction(PredictionOutput):
    """
    The triple of `Trainer.predict`, with one more attribute.

    Attributes:
        predictive: probabilities and uncertainties, or means and variances; `None` for a head that models a
            distribution, and with `prediction_loss_only`.
    """

    predictive: PredictiveOutput | RegressionOutput | SpanOutput | None = None


class EvaluatingTrainer(PushingTrainer):
    """
    A `Trainer` that evaluates the posterior predictive, and predicts with it.

    Attributes:
        posterior: the live `Posterior`, whose mean is the model's weights.
        likelihood: whose negative logarithm the loss stands for, once it is known.
        recalibration: applied to the predictive of evaluations, not in training.
        evaluation: the figures of the last evaluation, or prediction with labels.
        evaluations: the figures of the last evaluated step, by the prefix of the data set.
    """

    recalibration: Recalibration | None = None
    likelihood: Likelihood | None = None
    _begins_posterior = True  # rather than have it of a checkpoint
    model: nn.Module
    posterior: Posterior
    posterior_config: PosteriorConfig
    _kept: Kept

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._batch_norm_stale = self._noise_stale = False
        self.evaluations: dict[str, Evaluation] = {}
        self.evaluation: Evaluation | None = None
        self._evaluated_step = -1
        self._evaluation_run: EvaluationRun | None = None
        self._own_figures: set[str] = set()
        self._weights = Weights()
        self._head: tuple[Any, Head] | None = None
        self._keep: Keep | None = None  # set during `predict`
        self._predictive: Any = None
        super().__init__(*args, **kwargs)

    def _plain_model(self) -> nn.Module:
        if self.model is None:
            raise InputError(
                "The trainer has no model: a hyperparameter search leaves none. Set the best run's hyperparameters in "
                "trainer.args and call trainer.train(), or begin with a new trainer."
            )
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _follow_model(self) -> bool:
        """Refer the posterior to the weights by which FSDP2 has replaced those that it was made of."""
        followed = self.is_fsdp_enabled and self.posterior.follow(self.model)
        if followed:
            self.posterior.after_change = partial(reshard, self.model)
        return followed

    @property
    def head(self) -> Head:
        """
        The model's head: what it predicts, and the likelihood behind its loss.

        Raises:
            InputError: the loss is not known to be that of a likelihood.
        """
        # transformers settles the type of some problems by the first labels that it sees.
        problem = getattr(getattr(self.model, "config", None), "problem_type", None)
        key = id(self.model), problem, self.posterior_config.noise_variance
        if self._head is None or self._head[0] != key:
            self._head = key, self._find_head(self._plain_model())
        return self._head[1]

    def _find_head(self, model: nn.Module) -> Head:
        return find_head(model, self.posterior_config.noise_variance != "auto")

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """
        Return loss, predictions and labels of a batch, as `Trainer` does, but of the predictive.

        Predictions are log probabilities in the shape of the head's logits (a pair for spans), logits of the averaged
        probabilities for several labels an example, and averages over draws otherwise. The loss is the mean NLL of the
        predictive where there are classes, else the loss averaged over draws.

        Draws depend on `args.seed` and their number only: every batch sees the same weights. Batches that
        `evaluation_loop` has fetched together share the cost of each draw.
        """
        run = self._evaluation_run or EvaluationRun(self)
        return run.step(model, inputs, prediction_loss_only)

    def _pass_over(
        self, model: nn.Module, inputs: dict[str, Any]
    ) -> tuple[Tensor | None, tuple[Tensor, ...], dict[str, Any]]:
        """
        Return the loss, the outputs in the form that a `Predictive` takes, and the inputs as the model received them.
        """
        head = self.head
        prepared: dict[str, Any] = self._prepare_inputs(inputs)  # type: ignore[assignment]
        labels = [prepared.get(name) for name in head.targets]
        has_labels = all(label is not None for label in labels)
        if not has_labels and head.likelihood == "distribution":
            raise InputError(
                f"The rows have no {head.target!r}, by which a head that models a distribution is judged. To "
                "forecast, save the model and ask BayesianModel.forecast, which samples paths."
            )
        loss = None
        with torch.no_grad(), self.compute_loss_context_manager():
            if has_labels and not self._judges_itself(head):
                loss, outputs = self.compute_loss(model, dict(prepared), return_outputs=True)
                loss = loss.detach().mean()
            else:  # a model's own loss would hold the logits of all tokens a second time
                taken = prepared if not has_labels else {k: v for k, v in prepared.items() if k not in head.targets}
                outputs = model(**taken)
        if head.likelihood == "distribution":
            plain = self.accelerator.unwrap_model(model, keep_torch_compile=False)
            return loss, expectation_and_log_density(base_of(plain), outputs, prepared), prepared
        if not head.predicts(outputs) and len(head.predictions) == 1 and not head.normalises:
            return loss, (_first(outputs),), prepared  # a tuple, or what a compute_loss of the user's own returns
        found = head.all_predicted(outputs)
        return loss, ((*found, outputs["scale"]) if head.normalises else found), prepared

    def _judges_itself(self, head: Head) -> bool:
        """Return whether the NLL of tokens or pixels can be computed without labels in the model's forward."""
        if not head.counts_labels or head.is_assumed:
            return False
        config: Any = base_of(self._plain_model()).config
        if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
            return False  # the decoder's inputs are made of the labels
        given: Any = inspect.unwrap(self.compute_loss)
        return self.compute_loss_func is None and is_packaged(getattr(given, "__func__", given))

    def _labels_of(self, inputs: dict[str, Any]) -> Any:
        """Return the labels of a batch as `Trainer` returns them; `None` if some are missing."""
        labels = tuple(inputs.get(name) for name in self.label_names)
        if not labels or any(label is None for label in labels):
            return None
        return nested_detach(labels[0] if len(labels) == 1 else labels)

    @property
    def _noise(self) -> GaussianNoise | None:
        """The noise of a Gaussian predictive, if it is known."""
        if self.likelihood is not None:
            return self.likelihood.predictive_noise
        given = self.posterior_config.noise_variance
        return GaussianNoise(torch.tensor(given)) if isinstance(given, float) else None

    @property
    def _temperature(self) -> float:
        """The temperature of the predictive."""
        return 1.0 if self.recalibration is None else self.recalibration.temperature

    def _drawn_models(self, number: int, model: nn.Module | None = None) -> Iterator[nn.Module]:
        """
        Yield models with the weights of the evaluation's draws, one after another in the same memory: twins of the
        model, which keeps the mean. Where weights are sharded (FSDP2), the draws are written into the model itself.
        """
        plain = self._plain_model()
        seeds = [draw_seed(self.args.seed, draw) for draw in range(number)]
        scale = 1.0 if self.recalibration is None else self.recalibration.posterior_scale
        if self.is_fsdp_enabled:
            for seed in seeds:
                with self._weights.drawn(plain, self.posterior, seed, scale):
                    derive_anew(plain)
                    yield model or plain
            derive_anew(plain)
            return
        used = plain if model is None else self.accelerator.unwrap_model(model)
        twins = Twins(used, self.posterior, self._kept, evaluate=False)
        with refusing_calls(plain):
            for seed in seeds:
                yield twins.drawn(seed, scale, last=seed == seeds[-1])

    def _refresh(self) -> None:
        """
        Recompute what depends on the weights and on training data, if the weights have changed since the last time:
        batch normalisation's statistics for the mean, and then the noise of the predictive.
        """
        self._follow_model()
        if self._batch_norm_stale and self._gathers_statistics:
            self._gather_statistics(self._plain_model())
            self._batch_norm_stale = False
        likelihood = self.likelihood
        if self._noise_stale and likelihood is not None and likelihood.learns_noise and self.train_dataset is not None:
            measure_noise(self, self.head, likelihood, self._drawn_models(_NOISE_DRAWS), _NOISE_DRAWS)
            self._noise_stale = False

    @property
    def _gathers_statistics(self) -> bool:
        batches = self.args.batch_norm_batches if self.train_dataset is not None else 0
        return bool(batches) and has_running_statistics(self.model)

    def _gather_statistics(self, model: nn.Module) -> None:
        """Compute batch normalisation's statistics for the present weights."""
        gather_statistics(
            self, model, training_batches(self, self.args.train_batch_size, self.args.batch_norm_batches)
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the model as it stands, as `Trainer` does, and each of several data sets separately."""
        self._follow_model()
        return super().evaluate(*args, **kwargs)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """
        Evaluate as `Trainer` does. The figures of the predictive, and those of the mean's weights with the prefix
        `mean_`, are added to the user's metrics, which take precedence where names are the same. Predictions are kept
        only for `compute_metrics` and `predict`.
        """
        derive_anew(self._plain_model())  # weights may have been loaded meanwhile
        if self._begins_posterior and self.likelihood is None:
            logger.warning_once(
                "The posterior has learned nothing yet: the predictive has the variances that it begins with, around "
                "the model's weights. Call train() first, or, if the weights are a Bayesian checkpoint's, "
                "trainer.load_model(folder), which brings its posterior too."
            )
        self._refresh()
        run = self._evaluation_run = EvaluationRun(self, dataloader, self._keep)
        try:
            if self.args.batch_norm_per_draw and self._gathers_statistics:
                self._follow_model()
                for drawn in self._drawn_models(self.args.eval_num_samples):
                    with kept_running_statistics(drawn):
                        self._gather_statistics(drawn)
                        run.statistics.append(RunningStatistics(drawn))
            output = super().evaluation_loop(
                run.batches,  # type: ignore[arg-type]
                description,
                prediction_loss_only,
                ignore_keys,
                metric_key_prefix,
            )
        finally:
            self._evaluation_run = None
            self.posterior.restore_()  # in case an interrupt left a draw in place
        found = None if self.args.prediction_loss_only else run.figures.found()
        metrics: dict[str, float] = output.metrics  # type: ignore[assignment]
        figures = {} if found is None else _named(found["metrics"], metric_key_prefix)
        self._own_figures = self._own_figures - metrics.keys() | (figures.keys() - metrics.keys())
        metrics |= {name: value for name, value in figures.items() if name not in metrics}
        if found is not None:
            if self.head.counts_labels:  # over all terms alike, whatever batch they were in
                metrics[f"{metric_key_prefix}_loss"] = found["metrics"]["predictive"]["nll"]
            self._record_evaluation(found, getattr(dataloader, "dataset", None), metric_key_prefix)
        if self._keep is not None:
            self._predictive = run.predictive()
        return output

    def _largest(self, number: int) -> int:
        """Return the largest of all processes' numbers."""
        if self.accelerator.num_processes == 1:
            return number
        own = torch.tensor([number], device=self.accelerator.device)
        return int(self.accelerator.gather(own).max())

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], Any] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """
        Search as `Trainer` does. Without a `compute_objective` the objective is `Trainer`'s default, unaffected by the
        added figures: the evaluation loss, or the sum of the metrics of the user's `compute_metrics`.
        """
        if compute_objective in (None, default_compute_objective):
            compute_objective = self._users_objective
        return super().hyperparameter_search(hp_space, compute_objective, *args, **kwargs)

    def _users_objective(self, metrics: dict[str, float]) -> float:
        return default_compute_objective({k: v for k, v in metrics.items() if k not in self._own_figures})

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        settle_direction(self.args, self.eval_dataset if isinstance(self.eval_dataset, dict) else ())  # type: ignore[arg-type]
        return super()._inner_training_loop(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """
        Create the scheduler as `Trainer` does; for one that waits for a metric to stop improving, set whether greater
        is better.
        """
        if self.args.lr_scheduler_type in (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY):
            mode = {"mode": "max" if self.args.greater_is_better else "min"}
            self.args.lr_scheduler_kwargs = mode | (self.args.lr_scheduler_kwargs or {})  # type: ignore[operator]
        return super().create_scheduler(num_training_steps, optimizer)

    def predict(
        self,
        test_dataset: Dataset,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        return_logits: bool = False,
    ) -> PosteriorPrediction:
        """
        Predict as `Trainer` does, and more: `.predictive`, a `PredictiveOutput` (or `RegressionOutput`, `SpanOutput`)
        on the CPU, of `args.eval_num_samples` draws with `args.seed`, the same for all examples.

        Args:
            return_logits: keep every draw's logits in it, (S, B, K).
        """
        self._refresh()
        head = self.head
        if not self.args.prediction_loss_only and (head.likelihood != "gaussian" or self._noise is not None):
            levels = (0.05, 0.5, 0.95)
            self._keep = Keep(quantile_levels=levels, logits=return_logits, spread=not head.counts_labels)
        try:
            prediction = PosteriorPrediction(*super().predict(test_dataset, ignore_keys, metric_key_prefix))  # type: ignore[arg-type]
            prediction.predictive, self._predictive = self._predictive, None
        finally:
            self._keep = self._predictive = None
        return prediction

    def _record_evaluation(self, found: dict[str, Any], dataset: Any, prefix: str) -> None:
        """Keep the figures for the model card."""
        draws = self.args.eval_num_samples
        after = zip(draw_counts(draws), found.get("by_num_samples", []), strict=False)
        found["by_num_samples"] = [{"num_samples": count} | figures for count, figures in after]
        found |= {"num_samples": draws, "seed": self.args.seed, "recalibrated": self.recalibration is not None}
        described = describe_data(dataset)
        self.evaluation = Evaluation(**described, **found)
        if self._evaluated_step != self.state.global_step:
            self.evaluations = {}
        self._evaluated_step = self.state.global_step
        same = [name for name, own in self.evaluations.items() if own.data == self.evaluation.data and name != prefix]
        if same and (part := prefix.removeprefix("eval_")) != prefix:  # several data sets have the same name
            self.evaluation.split = part
        self.evaluations[prefix] = self.evaluation


def _named(metrics: dict[str, dict[str, float]], prefix: str) -> dict[str, float]:
    """Return the figures under their names in a result."""
    found = {f"{prefix}_{name}": value for name, value in metrics["predictive"].items()}
    return found | {f"{prefix}_mean_{name}": value for name, value in metrics["mean"].items()}


def _first(outputs: Any) -> Tensor:
    """Return the first tensor among a model's outputs that is not a loss."""
    if isinstance(outputs, Tensor):
        return outputs
    values = outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
    return next(v for name, v in values if isinstance(v, Tensor) and v.dim() and name != "loss")
