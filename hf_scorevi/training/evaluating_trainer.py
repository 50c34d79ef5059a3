"""`EvaluatingTrainer`: a `Trainer` that evaluates the predictive of a model with a posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import EvalPrediction
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, SchedulerType, default_compute_objective

from ..batch_norm import (
    RunningStatistics,
    has_running_statistics,
    kept_running_statistics,
    refresh_running_statistics,
)
from ..errors import InputError
from ..heads import Head, base_of, find_head
from ..hub import Evaluation, describe_data
from ..posterior import Posterior, PosteriorConfig, draw_seed
from ..posthoc import Recalibration
from ..predictive import (
    GAUSSIAN_SCORES,
    ClassCollector,
    ForecastCollector,
    GaussianNoise,
    PredictiveOutput,
    RegressionCollector,
    RegressionOutput,
)
from ..twin import Kept, Twins, derive_anew
from .batch_prediction import BatchPrediction, Collector
from .best_metric import settle_direction
from .densities import expectation_and_log_density
from .distributed import reshard
from .evaluation import CalibrationMetrics, Outputs, draw_counts, together, users_part
from .forecast_prediction import DensityPrediction, GaussianPrediction
from .grouping import GroupedBatches
from .likelihood import Likelihood
from .pushing import PushingTrainer
from .standing import Weights, refusing_calls
from .statistics_batches import spread_batches

__all__ = ["EvaluatingTrainer", "PosteriorPrediction"]

# Examples for which a draw is used before the next is made, so that the noise costs little beside the passes; and the
# bytes that their inputs may take meanwhile.
_GROUP_EXAMPLES, _GROUP_BYTES = 128, 1 << 28
# Training examples and draws by which the noise of the predictive is measured.
_NOISE_EXAMPLES, _NOISE_DRAWS = 1024, 4

Prediction = BatchPrediction | GaussianPrediction | DensityPrediction


class PosteriorPrediction(PredictionOutput):
    """
    `Trainer.predict`'s triple, with one attribute more.

    Attributes:
        predictive: probabilities and uncertainties, if the outputs are a table.
    """

    predictive: PredictiveOutput | RegressionOutput | None = None


class EvaluatingTrainer(PushingTrainer):
    """
    Evaluates the posterior predictive, and predicts with it.

    Attributes:
        posterior: the live `Posterior`, whose mean is the model's weights.
        likelihood: what the loss stands for, once it is known.
        recalibration: applied to the predictive of evaluations; training knows none.
        evaluation: what the last evaluation or prediction with labels has shown.
    """

    evaluation: Evaluation | None
    recalibration: Recalibration | None = None
    likelihood: Likelihood | None = None
    _make_collector: Callable[[], Collector] | None
    _batches: GroupedBatches | None
    _predicted: dict[int, Prediction]
    _batch_prediction: PredictiveOutput | RegressionOutput | None
    _details: tuple[np.ndarray, ...]
    model: nn.Module
    posterior: Posterior
    posterior_config: PosteriorConfig
    _kept: Kept

    def __init__(
        self,
        *args: Any,
        compute_metrics: Callable[[EvalPrediction], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._batch_norm_stale = self._noise_stale = False
        self._draw_statistics: list[RunningStatistics] = []
        self.evaluation, self._evaluated_step = None, -1
        self._make_collector, self._batch_prediction, self._details = None, None, ()
        self._batches, self._predicted = None, {}
        self._own_figures: set[str] = set()
        self._weights = Weights()
        self._calibration = CalibrationMetrics(compute_metrics)
        kwargs["compute_metrics"] = self._calibration
        kwargs["preprocess_logits_for_metrics"] = _keeping_outputs(preprocess_logits_for_metrics)
        super().__init__(*args, **kwargs)

    def _plain_model(self) -> nn.Module:
        if self.model is None:
            raise InputError(
                "The trainer has no model: a hyperparameter search leaves none. Set the best run's hyperparameters in "
                "trainer.args and call trainer.train(), or begin with a new trainer."
            )
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def _follow_model(self) -> bool:
        """Take up the weights that FSDP2 has put in the place of those the posterior was made of."""
        followed = self.is_fsdp_enabled and self.posterior.follow(self.model)
        if followed:
            self.posterior.after_change = partial(reshard, self.model)
        return followed

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """
        The outputs of a batch: of the predictive, and of the mean; what each example contributes to the figures, of a
        classifier after fewer draws, (batch, `draw_counts`, 4), of a regression or forecaster of predictive and mean,
        (batch, 2, scores); and for `predict` what else there is to tell.
        For a classifier the predictive's outputs are log probabilities and the loss their NLL; otherwise outputs and
        loss are averaged over draws (for several labels an example the probabilities are averaged, and given as
        logits).

        Draws depend on `args.seed` and their number alone: every batch sees the same weights. The batches that
        `evaluation_loop` has fetched together share the making of each.
        """
        found = self._predicted.pop(id(inputs), None)
        if found is None:
            group = self._batches.group if self._batches is not None else []
            group = group if any(batch is inputs for batch in group) else [inputs]
            self._predicted = self._predict_group(model, group, ignore_keys)
            found = self._predicted.pop(id(inputs))
        loss, outputs, labels, self._batch_prediction = found.result()
        judged = labels if isinstance(found, BatchPrediction) and found.is_judged else outputs[2].flatten(1)[:, :0]
        return (loss, None, None) if prediction_loss_only else (loss, Outputs((*outputs, judged)), labels)

    def _predict_group(
        self, model: nn.Module, group: Sequence[dict[str, Any]], ignore_keys: list[str] | None
    ) -> dict[int, Prediction]:
        """What becomes of each batch, by its identity."""
        self._follow_model()
        found: dict[int, Any] = {}
        for inputs in group:
            _, outputs, labels = self._pass_over(model, inputs, ignore_keys)
            found[id(inputs)] = self._prediction_of(outputs, labels)
        # Which transformers may have found out by these very labels.
        self._calibration.independent = self._problem_type == "multi_label_classification"
        for draw, drawn in enumerate(self._drawn_models(self.args.eval_num_samples, model)):
            with self._statistics_of(draw, drawn):
                for inputs in group:
                    loss, outputs, _ = self._pass_over(drawn, inputs, ignore_keys)
                    found[id(inputs)].add(outputs, loss)
        return found

    def _pass_over(
        self, model: nn.Module, inputs: dict[str, Any], ignore_keys: list[str] | None
    ) -> tuple[Tensor | None, Any, Any]:
        """Loss, outputs and labels of one forward pass; of a forecaster's outputs what its predictive needs."""
        head = self.head
        if head is None or not head.forecasts:
            loss, outputs, labels = super().prediction_step(model, inputs, False, ignore_keys)
            return loss, _first(outputs), labels
        inputs = self._prepare_inputs(inputs)  # type: ignore[assignment]
        loss, labels = None, inputs.get(head.target)
        if labels is None and head.kind == "nll":
            raise ValueError(
                f"The rows have no {head.target!r}, by which a head that models a distribution is judged. To "
                "forecast, save the model and ask BayesianModel.forecast, which samples paths."
            )
        with torch.no_grad(), self.compute_loss_context_manager():
            if labels is None:
                outputs = model(**inputs)
            else:
                loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
                loss = loss.detach()
        if head.kind == "gaussian":
            return loss, (head.predicted(outputs), outputs["scale"] if head.normalises else None), labels
        plain = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        return loss, expectation_and_log_density(base_of(plain), outputs, inputs), labels

    def _prediction_of(self, outputs: Any, labels: Any) -> Prediction:
        """What collects the draws of a batch, given the outputs of the mean."""
        head = self.head
        if head is not None and head.kind == "gaussian":
            target = head.observed(labels) if isinstance(labels, Tensor) else None
            return GaussianPrediction(outputs, target, self._noise, self._make_collector)
        if head is not None and head.forecasts:
            return DensityPrediction(outputs, labels)
        return BatchPrediction(
            outputs,
            labels,
            self.args.eval_num_samples,
            self._problem_type,
            self._temperature,
            self._make_collector,
        )

    @property
    def head(self) -> Head | None:
        """What the model predicts, and what its loss is the likelihood of; `None` if it is that of nothing."""
        try:
            return find_head(self._plain_model(), self.posterior_config.noise_variance != "auto")
        except ValueError:
            return None

    @property
    def _noise(self) -> GaussianNoise | None:
        """Of the predictive, if it has a Gaussian's, and it is known."""
        if self.likelihood is not None:
            return self.likelihood.predictive_noise
        given = self.posterior_config.noise_variance
        return GaussianNoise(torch.tensor(given)) if isinstance(given, float) else None

    @property
    def _problem_type(self) -> str | None:
        return getattr(getattr(self.model, "config", None), "problem_type", None)

    @property
    def _temperature(self) -> float:
        """Of the predictive."""
        return 1.0 if self.recalibration is None else self.recalibration.temperature

    def _drawn_models(self, number: int, model: nn.Module | None = None) -> Iterator[nn.Module]:
        """
        Models with the weights of the draws of evaluation, one after another in the same memory: twins of the model,
        which holds the mean meanwhile. Where weights are split (FSDP2), the draws stand in the model itself.
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
        What depends on the weights and is taken from training data, if they have moved since it last was: batch
        normalisation's statistics, of the mean, and then the noise of the predictive.
        """
        self._follow_model()
        if self._batch_norm_stale and self._gathers_statistics:
            self._gather_statistics(self._plain_model())
            self._batch_norm_stale = False
        likelihood = self.likelihood
        if self._noise_stale and likelihood is not None and likelihood.learns_noise and self.train_dataset is not None:
            self._measure_noise(likelihood)
            self._noise_stale = False

    def _measure_noise(self, likelihood: Likelihood) -> None:
        """
        The noise of the predictive: of the residuals of its mean on training examples. Those of training passes, from
        which the likelihood's is learned, have the draws' own variance and that of dropout in them.

        The mean is that of few draws; what their variance adds to its squared residuals is taken off.
        """
        head, noise, model = self.head, likelihood.noise, self._plain_model()
        assert head is not None and noise is not None
        size = self.args.per_device_eval_batch_size
        batches = [self._prepare_inputs(batch) for batch in self._training_batches(size, -(-_NOISE_EXAMPLES // size))]
        draws: list[list[Tensor]] = [[] for _ in batches]
        scales: list[Tensor] = []
        training = model.training
        model.eval()
        try:
            for draw, drawn in enumerate(self._drawn_models(_NOISE_DRAWS)):
                with torch.no_grad(), self.compute_loss_context_manager():
                    for found, inputs in zip(draws, batches, strict=True):
                        outputs = drawn(**inputs)
                        if not head.predicts(outputs):  # a model of the user's own: what was learned will have to do
                            return
                        found.append(head.predicted(outputs).float())
                        if likelihood.windowed and not draw:
                            scales.append(outputs["scale"])
        finally:
            model.train(training)
        squares = []
        for found, inputs in zip(draws, batches, strict=True):
            forecasts = torch.stack(found)
            target = head.observed(inputs[head.target]).reshape(forecasts.shape[1:])
            squares.append((forecasts.mean(0) - target).square() - forecasts.var(0) / _NOISE_DRAWS)
        granularity = "window" if likelihood.windowed else noise.granularity
        scale = torch.cat(scales) if likelihood.windowed else None
        likelihood.measured = GaussianNoise.fit(torch.cat(squares), granularity, scale)

    @property
    def _gathers_statistics(self) -> bool:
        batches = self.args.batch_norm_batches if self.train_dataset is not None else 0
        return bool(batches) and has_running_statistics(self.model)

    def _training_batches(self, size: int, number: int) -> Iterator[Any]:
        """At most so many, spread over the training data."""
        dataset, collate = self.train_dataset, self.data_collator
        assert dataset is not None
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="training")
        else:
            collate = self._get_collator_with_removed_columns(collate, description="training")
        return spread_batches(dataset, collate, size, number)

    def _gather_statistics(self, model: nn.Module) -> None:
        """For the weights that are in place."""
        batches = self._training_batches(self.args.train_batch_size, self.args.batch_norm_batches)
        with self.compute_loss_context_manager():
            refresh_running_statistics(model, (self._prepare_inputs(batch) for batch in batches))

    @contextmanager
    def _statistics_of(self, draw: int, model: nn.Module) -> Iterator[None]:
        """Batch normalisation's statistics of one draw, if the evaluation has gathered them; those before after it."""
        if not self._draw_statistics:
            yield
            return
        with kept_running_statistics(model):
            self._draw_statistics[draw].restore(model)
            yield

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As `Trainer`'s, of the model as it stands."""
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
        """As `Trainer`'s; `predictions` are the predictive's alone."""
        derive_anew(self._plain_model())  # weights may have been loaded meanwhile
        self._refresh()
        head = self.head
        scores: tuple[str, ...] = ()
        if head is not None and (head.kind == "gaussian" or head.forecasts):
            scores = GAUSSIAN_SCORES if head.kind == "gaussian" else ("nll",)
        self._calibration.begin(scores, independent=self._problem_type == "multi_label_classification")
        if self.args.batch_norm_per_draw and self._gathers_statistics:
            self._follow_model()
            for drawn in self._drawn_models(self.args.eval_num_samples):
                with kept_running_statistics(drawn):
                    self._gather_statistics(drawn)
                    self._draw_statistics.append(RunningStatistics(drawn))
        size = max(1, _GROUP_EXAMPLES // self.args.per_device_eval_batch_size)
        # A forecast is about as large as its context, and of each draw.
        most_bytes = _GROUP_BYTES // (self.args.eval_num_samples if scores else 1)
        self._batches = GroupedBatches(dataloader, size, most_bytes, self._largest)
        gather = self.gather_function
        self.gather_function = lambda values: self._calibration.take(gather(values))
        try:
            output = super().evaluation_loop(
                self._batches,  # type: ignore[arg-type]
                description,
                prediction_loss_only,
                ignore_keys,
                metric_key_prefix,
            )
        finally:
            self.gather_function = gather
            self.posterior.restore_()  # if an interrupt came at an unlucky moment
            self._batches, self._predicted, self._draw_statistics = None, {}, []
        own = {f"{metric_key_prefix}_{name}" for name in self._calibration.names}
        self._own_figures = self._own_figures - output.metrics.keys() | own  # type: ignore[union-attr]
        self._record_evaluation(getattr(dataloader, "dataset", None))
        gathered: Any = output.predictions
        if isinstance(gathered, list) and gathered:  # eval_do_concat_batches=False
            self._details = together([batch[3] for batch in gathered])
            output = output._replace(predictions=[users_part(batch) for batch in gathered])  # type: ignore[arg-type]
        elif isinstance(gathered, tuple):
            self._details = gathered[3]
            output = output._replace(predictions=users_part(gathered))
        return output

    def _largest(self, number: int) -> int:
        """Of all processes'."""
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
        As `Trainer`'s. Without a `compute_objective` the objective is what it is there, whatever `evaluate` reports
        besides: the evaluation loss, or the sum of the metrics of the user's own `compute_metrics`.
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
        """As `Trainer`'s; a schedule that waits for a metric to stop improving is told which way is better."""
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
        As `Trainer`'s, and what the predictive tells besides: `.predictive`, a `PredictiveOutput` (or
        `RegressionOutput`) on the CPU, of `args.eval_num_samples` draws with `args.seed`, the same for all examples.

        Args:
            return_logits: keep every draw's logits in it, (S, B, K).
        """
        self._refresh()
        head, noise = self.head, self._noise
        if self.args.prediction_loss_only:
            self._make_collector = None  # there is nothing to tell of an example
        elif head is not None and head.kind == "gaussian":
            self._make_collector = None
            if noise is not None:
                kind = ForecastCollector if head.forecasts else RegressionCollector
                self._make_collector = lambda: kind(noise, (0.05, 0.5, 0.95), return_logits)
        else:
            # Made after the first pass, by which transformers may find out what the labels are.
            self._make_collector = lambda: ClassCollector(
                self._temperature, self._problem_type == "multi_label_classification", False, return_logits
            )
        try:
            prediction = PosteriorPrediction(*super().predict(test_dataset, ignore_keys, metric_key_prefix))  # type: ignore[arg-type]
        finally:
            self._make_collector = None
            batch, self._batch_prediction = self._batch_prediction, None
            details, self._details = self._details, ()
        if batch is not None:
            values = map(torch.from_numpy, details)
            prediction.predictive = batch.replaced(dict(zip(batch.examples_first(), values, strict=True)))
        return prediction

    def _record_evaluation(self, dataset: Any) -> None:
        """Keep what was measured, for the card."""
        found, self._calibration.found = self._calibration.found, None
        if found is not None:
            draws = self.args.eval_num_samples
            after = zip(draw_counts(draws), found.get("by_num_samples", []), strict=False)
            found["by_num_samples"] = [{"num_samples": count} | figures for count, figures in after]
            found |= {"num_samples": draws, "seed": self.args.seed, "recalibrated": self.recalibration is not None}
            self.evaluation = Evaluation(**describe_data(dataset), **found)
            self._evaluated_step = self.state.global_step


def _keeping_outputs(preprocess: Callable[[Tensor, Tensor], Any] | None) -> Callable[..., Any] | None:
    """The user's hook sees the predictive's outputs; our metrics still need what it was given."""
    if preprocess is None:
        return None
    return lambda outputs, labels: Outputs((*outputs, preprocess(outputs[0], labels)))


def _first(outputs: Any) -> Tensor:
    """The logits among a model's outputs, which come first."""
    return outputs[0] if isinstance(outputs, tuple | list) else outputs
