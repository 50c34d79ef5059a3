"""What a model with a posterior predicts, for one batch or for a data set."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import default_data_collator
from transformers.utils import ModelOutput, find_labels, logging  # type: ignore[attr-defined]

from .batch_norm import refresh_running_statistics
from .errors import InputError
from .heads import Head, base_of, find_head
from .hub import StoredPosterior
from .posterior import Posterior, draw_seed, mix
from .posthoc import Recalibration
from .predictive import (
    ClassCollector,
    ForecastCollector,
    PathCollector,
    PredictiveOutput,
    RegressionCollector,
    RegressionOutput,
    drawn_outputs,
    generated_paths,
    vectorised_outputs,
)
from .twin import Kept, Twin, Twins

__all__ = ["Draws", "Predictor"]

Batch = Mapping[str, Any]

# Batches that a draw is used for before the next is made, so that the noise costs next to nothing beside the passes;
# their inputs are held on the device meanwhile.
_GROUP_BATCHES, _GROUP_BYTES = 64, 1 << 28


@dataclass
class Draws:
    """Which draws, and what of them is kept."""

    seeds: list[int] | None  # None: the mean's weights
    scale: float = 1.0
    temperature: float = 1.0
    at_once: int = 1
    samples: bool = False
    logits: bool = False
    levels: Sequence[float] = ()
    paths: int | None = None  # a draw, of a forecaster
    seed: int = 0  # of the noise in paths
    prepare: Callable[[nn.Module], None] | None = None


class Predictor:
    """
    The predicting part of `BayesianModel`.

    Attributes:
        model: holds the posterior's mean.
        posterior: over its weights.
        recalibration: what was fitted to held-out data, and is applied to every predictive; `None` for nothing.
        num_samples, seed: of the draws when the model is called like an ordinary one, by a pipeline for instance.
    """

    model: nn.Module
    posterior: Posterior
    stored: StoredPosterior
    recalibration: Recalibration | None = None
    num_samples: int = 16
    seed: int = 0
    _kept: Kept
    _leaves_traces: bool | None = None  # whether passes leave something in the modules, once that is known

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.posterior.params[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of inputs."""
        return self.posterior.params[0].dtype

    def can_generate(self) -> bool:
        """No: draws for every token are not implemented. Pipelines ask."""
        return False

    @property
    def input_modalities(self) -> Any:
        """The model's own."""
        return getattr(self.model, "input_modalities", ())

    @property
    def posterior_scale(self) -> float:
        """Factor of the posterior's standard deviations in every draw: that of the recalibration, or 1."""
        return 1.0 if self.recalibration is None else self.recalibration.posterior_scale

    @property
    def head(self) -> Head:
        """What the model predicts, and what its loss is the likelihood of."""
        return find_head(self.model, self.stored.noise_variance is not None)

    @property
    def kind(self) -> str:
        """
        What is predicted: one of several `"classes"`, several independent `"labels"`, `"numbers"`, or `"forecasts"` of
        a series.
        """
        if self.head.forecasts:
            return "forecasts"
        if self.head.kind == "gaussian":
            return "numbers"
        problem = getattr(getattr(self.model, "config", None), "problem_type", None)
        return "labels" if problem == "multi_label_classification" else "classes"

    @torch.no_grad()
    def predict(
        self,
        *,
        num_samples: int = 16,
        seed: int | None = None,
        use_mean: bool = False,
        return_samples: bool = True,
        return_logits: bool = False,
        draws_at_once: int = 1,
        quantile_levels: Sequence[float] = (0.05, 0.5, 0.95),
        paths_per_draw: int | None = None,
        batch_norm_batches: Sequence[Batch] | None = None,
        **inputs: Any,
    ) -> PredictiveOutput | Any:
        """
        The posterior predictive for `inputs`, given as to the model's forward.

        Args:
            num_samples: posterior draws S; each costs one forward pass.
            seed: of the draws; the same seed gives the same weights for every call. Default: fresh draws.
            use_mean: predict with the mean's weights alone, without recalibration: one pass, no uncertainty of the
                weights.
            return_samples: keep each draw's probabilities; without them (and `return_logits`) the memory of
                a prediction does not grow with S.
            return_logits: keep each draw's logits.
            draws_at_once: draws that share a pass by `torch.func.vmap`, with their weights held side by side. Faster
                where few weights are Bayesian (a head, whose body is then computed once) or the model and the batch
                are small; the numbers are those of single passes up to rounding.
            quantile_levels: of a regression's or forecaster's predictive.
            paths_per_draw: sample paths of a forecaster, noise included, to be kept as `paths`. Default: none. Those
                of a head that models a distribution are made in any case, for quantiles and moments: the
                `num_parallel_samples` of its configuration, if not said otherwise.
            batch_norm_batches: arguments of the model's forward, of training examples, from which batch normalisation
                gathers statistics for each draw; default: all draws use the mean's.

        Returns:
            `ForecastOutput` of a forecaster, `RegressionOutput` of others trained with a squared error,
            `PredictiveOutput` of a classifier. (To type checkers the first two are `Any`, so that a classifier's
            probabilities need no check.)

        Raises:
            ValueError: `num_samples` or `draws_at_once` below 1; levels outside (0, 1); a forecaster's noise variance
                is not known.
            TypeError: the model's outputs have no logits.
        """
        draws = self._draws(num_samples, seed, use_mean, draws_at_once, return_samples, return_logits, quantile_levels)
        draws.paths = paths_per_draw
        draws.prepare = self._refresher(batch_norm_batches, draws)
        (output,) = self._predict_group([self._moved(inputs)], draws)
        return output

    @torch.no_grad()
    def predict_dataset(
        self,
        dataset: Dataset | Iterable[Any],
        *,
        batch_size: int = 32,
        data_collator: Callable[[list[Any]], dict[str, Any]] = default_data_collator,
        num_workers: int = 0,
        num_samples: int = 16,
        seed: int | None = None,
        fresh_draws: bool = False,
        use_mean: bool = False,
        return_samples: bool = False,
        return_logits: bool = False,
        draws_at_once: int = 1,
        quantile_levels: Sequence[float] = (0.05, 0.5, 0.95),
        paths_per_draw: int | None = None,
        batch_norm_batches: Sequence[Batch] | None = None,
    ) -> PredictiveOutput | Any:
        """
        The posterior predictive for every row of a data set, on the CPU. Rows are read once.

        Args:
            dataset: of rows as the Trainer takes them; labels and columns that the model does not take are left out.
            batch_size: rows in a forward pass.
            data_collator: makes batches of the rows, for instance by padding; default: rows of one shape are stacked.
            num_workers: processes that read the data.
            fresh_draws: other draws for every batch. Default: the same for the whole data set.

        The other arguments are those of `predict`.

        Raises:
            ValueError: the data set is empty; and as `predict`.
        """
        draws = self._draws(num_samples, seed, use_mean, draws_at_once, return_samples, return_logits, quantile_levels)
        draws.paths = paths_per_draw
        draws.prepare = self._refresher(batch_norm_batches, draws)
        loader: DataLoader[Any] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_size=batch_size,
            collate_fn=data_collator,
            num_workers=num_workers,
        )
        return self.predict_loader(loader, draws, fresh_draws)

    @torch.no_grad()
    def forward(self, **inputs: Any) -> ModelOutput:
        """
        What an ordinary model returns, with `logits` whose softmax (sigmoid, for several labels an example) is the
        predictive: for pipelines and other code that takes a model. Draws are `num_samples` of `seed`.
        """
        output = self.predict(num_samples=self.num_samples, seed=self.seed, return_samples=False, **inputs)
        if isinstance(output, RegressionOutput):
            return ModelOutput(**{self.head.prediction: output.mean})
        if self.kind == "labels":
            return ModelOutput(logits=output.probs.logit(torch.finfo(torch.float32).eps))
        return ModelOutput(logits=output.log_probs)

    __call__ = forward

    @torch.no_grad()
    def predict_loader(
        self, loader: DataLoader, draws: Draws, fresh_draws: bool = False
    ) -> PredictiveOutput | RegressionOutput:
        """As `predict_dataset`, of a loader's batches."""
        passes = 1 if draws.seeds is None else len(draws.seeds)
        total = len(loader) * passes if hasattr(loader.dataset, "__len__") else None
        outputs: list[PredictiveOutput | RegressionOutput] = []
        # A forecast is about as large as its context, and of each draw.
        limit = _GROUP_BYTES // (passes if self.kind == "forecasts" else 1)
        inputs = map(self.inputs_of, loader)
        with logging.tqdm(total=total, desc="Predicting", unit="pass") as progress:
            for number, group in enumerate(_groups(inputs, 1 if fresh_draws else _GROUP_BATCHES, limit)):
                own = draws
                if fresh_draws and draws.seeds is not None:
                    own = replace(draws, seeds=[mix(seed, number) for seed in draws.seeds])
                batches = [self._moved(batch) for batch in group]
                found = self._predict_group(batches, own, progress.update, len(outputs))
                outputs += [output.to("cpu") for output in found]
        if not outputs:
            raise ValueError("There is nothing to predict: the data set is empty.")
        return type(outputs[0]).cat(outputs)  # type: ignore[arg-type]

    def _draws(
        self,
        num_samples: int,
        seed: int | None,
        use_mean: bool,
        at_once: int,
        samples: bool,
        logits: bool,
        levels: Sequence[float],
    ) -> Draws:
        if not use_mean and num_samples < 1:
            raise ValueError(
                f"num_samples must be at least 1, not {num_samples!r}; for the mean's prediction say use_mean=True."
            )
        if at_once < 1:
            raise ValueError(f"draws_at_once must be at least 1, not {at_once!r}.")
        if seed is None:
            seed = secrets.randbits(63)  # torch.seed() would reseed the global generator
        seeds = None if use_mean else [draw_seed(seed, draw) for draw in range(num_samples)]
        recalibration = None if use_mean else self.recalibration
        temperature = 1.0 if recalibration is None else recalibration.temperature
        return Draws(seeds, self.posterior_scale, temperature, at_once, samples, logits, levels, seed=seed)

    def _refresher(self, batches: Sequence[Batch] | None, draws: Draws) -> Callable[[nn.Module], None] | None:
        if batches is None:
            return None
        if draws.at_once > 1:
            raise ValueError("batch_norm_batches goes with one draw at a time: leave out draws_at_once.")
        return lambda model: refresh_running_statistics(model, map(self._moved, batches))

    def _predict_group(
        self, batches: Sequence[Batch], draws: Draws, on_pass: Callable[[], Any] = lambda: None, first: int = 0
    ) -> list[PredictiveOutput | RegressionOutput]:
        """`first`: how many batches there were before these."""
        if self.model.training:
            self.model.eval()
        collectors = [self._collector(draws, first + i) for i in range(len(batches))]
        for outputs in self._outputs(batches, draws, first):
            for collector, output in zip(collectors, outputs, strict=True):
                collector.add(*(output if isinstance(output, tuple) else (output,)))
                on_pass()
        return [collector.result() for collector in collectors]

    def _outputs(self, batches: Sequence[Batch], draws: Draws, first: int) -> Iterator[list[Any]]:
        generates = self._generates
        numbers = {id(batch): first + i for i, batch in enumerate(batches)}

        def output_of(model: nn.Module, batch: Batch, seed: int) -> Any:
            if generates:
                return generated_paths(base_of(model), batch, draws.paths, mix(seed, numbers[id(batch)]))
            return self._output_of(model(**batch))

        if draws.seeds is None:
            self.posterior.require_mean()
            yield self._mean_outputs(batches, lambda model, batch: output_of(model, batch, draws.seed))
        elif draws.at_once == 1:
            twins = Twins(self.model, self.posterior, self._kept)
            yield from drawn_outputs(twins, draws.seeds, draws.scale, batches, output_of, draws.prepare)
        elif generates:
            raise ValueError(f"{type(self._base).__name__} samples paths one draw at a time: leave out draws_at_once.")
        else:
            parts = self.model, self.posterior
            for start in range(0, len(draws.seeds), draws.at_once):
                seeds = draws.seeds[start : start + draws.at_once]
                yield from vectorised_outputs(*parts, seeds, draws.scale, batches, self._output_of, self._kept)

    def _mean_outputs(self, batches: Sequence[Batch], output_of: Callable[[nn.Module, Batch], Any]) -> list[Any]:
        """
        Of the model itself, unless its passes leave something in its modules, which draws would find there; that is
        seen in a twin first.
        """
        if self._leaves_traces is False and not self._generates:
            return [output_of(self.model, batch) for batch in batches]
        twin = Twin(self.model, {}, self._kept)
        model = twin.fold()
        if self._leaves_traces is None:
            twin.watch()
        outputs = [output_of(model, batch) for batch in batches]
        if self._leaves_traces is None:
            self._leaves_traces = twin.leaves_traces()
        return outputs

    def _collector(self, draws: Draws, number: int) -> ClassCollector | PathCollector | RegressionCollector:
        keep = draws.samples or draws.logits
        if self._generates:
            return PathCollector(draws.levels, keep, keep_paths=draws.paths is not None)
        if self.kind in ("numbers", "forecasts"):
            noise = self.stored.noise
            if noise is None:
                raise InputError(
                    "The noise variance of this posterior is not known, since it was saved before training: train the "
                    "model with ScoreVITrainer, or give PosteriorConfig(noise_variance=...)."
                )
            if self.kind == "numbers":
                return RegressionCollector(noise, draws.levels, keep)
            seed = mix(draws.seed, number)
            return ForecastCollector(noise, draws.levels, keep, draws.paths or 0, seed)
        return ClassCollector(draws.temperature, self.kind == "labels", draws.samples, draws.logits)

    @property
    def _generates(self) -> bool:
        """Whether forecasts are paths that the model samples."""
        return self.head.forecasts and self.head.kind == "nll"

    @property
    def _base(self) -> nn.Module:
        """The model without its adapter."""
        return base_of(self.model)

    def _output_of(self, outputs: Any) -> Tensor | tuple[Tensor, Tensor]:
        found = self.head.predicted(outputs)
        if self.head.normalises:
            return found, outputs["scale"]
        of_classes = found.dim() >= 2 and found.shape[-1] >= 2
        if self.kind == "classes" and not of_classes:
            raise TypeError(
                f"The {self.head.prediction} of {type(self.model).__name__} have the shape {tuple(found.shape)}, not "
                "that of a classifier, (batch, classes); and its posterior knows no noise variance of a regression."
            )
        return found

    def _moved(self, batch: Batch) -> dict[str, Any]:
        device = self.device
        return {name: v.to(device) if isinstance(v, Tensor) else v for name, v in batch.items()}

    def inputs_of(self, batch: Batch) -> dict[str, Any]:
        """What the model's forward takes of a batch; no labels, since no loss is wanted."""
        model = self._base
        taken = inspect.signature(model.generate if self._generates else model.forward).parameters  # type: ignore[arg-type]
        names = set(taken) - {"labels", self.head.target, *find_labels(type(model))}
        return {name: value for name, value in batch.items() if name in names}


def _groups(batches: Iterable[dict[str, Any]], most: int, limit: int) -> Iterator[list[dict[str, Any]]]:
    """Neighbouring batches: at most so many, and not many bytes."""
    batches = iter(batches)
    while first := next(batches, None):
        size = sum(v.nbytes for v in first.values() if isinstance(v, Tensor))
        yield [first, *islice(batches, min(most, limit // max(size, 1)) - 1 if size < limit else 0)]
