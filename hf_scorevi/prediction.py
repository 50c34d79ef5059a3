"""Predictions of a model with a posterior, for one batch or for a data set."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers.utils import ModelOutput, find_labels, logging  # type: ignore[attr-defined]

from .batch_norm import refresh_running_statistics
from .errors import InputError
from .heads import Head, base_of, find_head
from .hub import StoredPosterior
from .padding import Collator
from .posterior import Posterior, draw_seed, mix
from .posthoc import Recalibration
from .predictive import (
    GaussianNoise,
    Keep,
    Predictive,
    PredictiveOutput,
    RegressionOutput,
    SpanOutput,
    drawn_outputs,
    generated_paths,
    predictive_of,
    vectorised_outputs,
)
from .predictive.draws import GROUP_BATCHES, GROUP_BYTES, TABLE_BYTES
from .twin import Kept, Twin, Twins

__all__ = ["Draws", "Predictor"]

Batch = Mapping[str, Any]
Output = PredictiveOutput | RegressionOutput | SpanOutput


@dataclass(frozen=True)
class Draws:
    """
    The posterior draws of a prediction, and which of its results are kept.

    Attributes:
        seeds: one for each draw; `None` for the mean's weights.
        scale: of the posterior's standard deviations.
        at_once: draws that share a pass.
        keep: which results are wanted.
        prepare: called with the model of each draw first.
    """

    seeds: Sequence[int] | None
    scale: float = 1.0
    at_once: int = 1
    keep: Keep = field(default_factory=Keep)
    prepare: Callable[[nn.Module], None] | None = None


class Predictor:
    """
    The predicting part of `BayesianModel`.

    Attributes:
        model: holds the posterior's mean.
        posterior: over its weights.
        recalibration: fitted to held-out data, and applied to every predictive; `None` for none.
        num_samples, seed: of the draws when the model is called like an ordinary one, by a pipeline for instance.
    """

    model: nn.Module
    posterior: Posterior
    stored: StoredPosterior
    recalibration: Recalibration | None = None
    num_samples: int = 16
    seed: int = 0
    _kept: Kept
    _leaves_traces: bool | None = None  # whether passes store something in the modules; None: not known yet

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.posterior.params[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and so of inputs."""
        return self.posterior.params[0].dtype

    def can_generate(self) -> bool:
        """Return False, as pipelines ask: generation of text under posterior draws is not implemented."""
        return False

    @property
    def input_modalities(self) -> Any:
        """The kinds of input that the model takes."""
        return getattr(self.model, "input_modalities", ())

    @property
    def posterior_scale(self) -> float:
        """Factor of the posterior's standard deviations in every draw: that of the recalibration, or 1."""
        return 1.0 if self.recalibration is None else self.recalibration.posterior_scale

    @property
    def head(self) -> Head:
        """The model's head: what it predicts, and the likelihood behind its loss."""
        return find_head(self.model, self.stored.noise_variance is not None)

    @property
    def task(self) -> str:
        """
        What is predicted: one of several `"classes"`, several independent `"labels"`, `"numbers"`, the class of each
        of many `"tokens"` or `"pixels"`, `"spans"` of a text, or `"forecasts"` of a series.
        """
        return self.head.task

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
        Predict from `inputs`, the arguments of the model's forward.

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
                are small; the results are those of separate passes up to rounding.
            quantile_levels: of a regression's or forecaster's predictive.
            paths_per_draw: sample paths of a forecaster, noise included, to be kept as `paths`. Default: none. Those
                of a head that models a distribution are made in any case, for quantiles and moments: the
                `num_parallel_samples` of its configuration by default.
            batch_norm_batches: arguments of the model's forward, of training examples, from which batch normalisation
                gathers statistics for each draw; default: all draws use the mean's.

        Returns:
            `ForecastOutput` of a forecaster, `RegressionOutput` of others trained with a squared error, `SpanOutput`
            of spans of a text, `PredictiveOutput` of classes, of examples, tokens or pixels. (To type checkers the
            others are `Any`, so that a classifier's probabilities need no check.)

        Raises:
            ValueError: `num_samples` or `draws_at_once` below 1; levels outside (0, 1); a forecaster's noise variance
                is not known.
            TypeError: the model's outputs have no logits.
        """
        keep = Keep(
            samples=return_samples,
            logits=return_logits,
            quantile_levels=quantile_levels,
            paths_per_draw=paths_per_draw,
        )
        draws = self._draws(num_samples, seed, use_mean, draws_at_once, keep, batch_norm_batches)
        (output,) = self._predict_group([self._moved(inputs)], draws)
        return output

    @torch.no_grad()
    def predict_dataset(
        self,
        dataset: Dataset | Iterable[Any],
        *,
        batch_size: int = 32,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        processing_class: Any = None,
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
        Predict every row of a data set, with the result on the CPU. Rows are read once.

        Args:
            dataset: of rows as the Trainer takes them; labels and columns that the model does not take are left out.
            batch_size: rows in a forward pass.
            data_collator: makes batches of the rows; default: rows are padded by `processing_class`, or stacked, being
                of one shape.
            processing_class: the tokenizer or feature extractor that has made the rows, as the Trainer takes it.
            num_workers: processes that read the data.
            fresh_draws: other draws for every batch. Default: the same for the whole data set.

        The other arguments are those of `predict`.

        Raises:
            ValueError: the data set is empty; and as `predict`.
        """
        keep = Keep(
            samples=return_samples,
            logits=return_logits,
            quantile_levels=quantile_levels,
            paths_per_draw=paths_per_draw,
        )
        draws = self._draws(num_samples, seed, use_mean, draws_at_once, keep, batch_norm_batches)
        loader: DataLoader[Any] = DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_size=batch_size,
            collate_fn=data_collator or Collator(processing_class, self.input_names),
            num_workers=num_workers,
        )
        return self.predict_loader(loader, draws, fresh_draws)

    @torch.no_grad()
    def forward(self, **inputs: Any) -> ModelOutput:
        """
        Return the outputs of an ordinary model, with `logits` whose softmax (or sigmoid, for several labels an
        example) is the predictive: for pipelines and other code that takes a model. It uses `num_samples` draws of
        `seed`.
        """
        head = self.head
        inputs = {name: value for name, value in inputs.items() if name != "return_dict"}
        output = self.predict(num_samples=self.num_samples, seed=self.seed, return_samples=False, **inputs)
        if isinstance(output, RegressionOutput):
            return ModelOutput(**{head.predictions[0]: output.mean})
        if isinstance(output, SpanOutput):
            return ModelOutput(start_logits=output.start.log_probs, end_logits=output.end.log_probs)
        if head.task == "labels":
            return ModelOutput(logits=output.probs.logit(torch.finfo(torch.float32).eps))
        return ModelOutput(logits=output.log_probs)

    __call__ = forward

    @torch.no_grad()
    def predict_loader(self, loader: DataLoader, draws: Draws, fresh_draws: bool = False) -> Output:
        """Predict as `predict_dataset` does, from the batches of a loader."""
        head = self.head
        passes = 1 if draws.seeds is None else len(draws.seeds)
        total = len(loader) * passes if hasattr(loader.dataset, "__len__") else None
        outputs: list[Output] = []
        # Forecasts are kept for each draw, and each is about as large as its context.
        groups = _Groups(map(self.inputs_of, loader), GROUP_BYTES // (passes if head.forecasts else 1))
        groups.most = 1 if fresh_draws or head.counts_labels else GROUP_BATCHES
        with logging.tqdm(total=total, desc="Predicting", unit="pass") as progress:
            for number, group in enumerate(groups):
                own = draws
                if fresh_draws and draws.seeds is not None:
                    own = replace(draws, seeds=[mix(seed, number) for seed in draws.seeds])
                batches = [self._moved(batch) for batch in group]
                found = self._predict_group(batches, own, progress.update, len(outputs))
                outputs += [output.to("cpu") for output in found]
                if head.counts_labels and not fresh_draws:  # the size of a prediction is known now
                    groups.most = max(1, min(GROUP_BATCHES, TABLE_BYTES // max(1, _num_bytes(found[-1]))))
        if not outputs:
            raise ValueError("There is nothing to predict: the data set is empty.")
        return type(outputs[0]).cat(outputs)  # type: ignore[arg-type]

    def _draws(
        self,
        num_samples: int,
        seed: int | None,
        use_mean: bool,
        at_once: int,
        keep: Keep,
        batch_norm_batches: Sequence[Batch] | None,
    ) -> Draws:
        if not use_mean and num_samples < 1:
            raise ValueError(
                f"num_samples must be at least 1, not {num_samples!r}; for the mean's prediction say use_mean=True."
            )
        if at_once < 1:
            raise ValueError(f"draws_at_once must be at least 1, not {at_once!r}.")
        if seed is None:
            seed = secrets.randbits(63)  # torch.seed() would reseed the global generator
        recalibration = None if use_mean else self.recalibration
        keep = replace(keep, seed=seed, temperature=1.0 if recalibration is None else recalibration.temperature)
        return Draws(
            seeds=None if use_mean else [draw_seed(seed, draw) for draw in range(num_samples)],
            scale=self.posterior_scale,
            at_once=at_once,
            keep=keep,
            prepare=self._refresher(batch_norm_batches, at_once),
        )

    def _refresher(self, batches: Sequence[Batch] | None, at_once: int) -> Callable[[nn.Module], None] | None:
        if batches is None:
            return None
        if at_once > 1:
            raise ValueError("batch_norm_batches goes with one draw at a time: leave out draws_at_once.")
        return lambda model: refresh_running_statistics(model, map(self._moved, batches))

    def _predict_group(
        self, batches: Sequence[Batch], draws: Draws, on_pass: Callable[[], Any] = lambda: None, first: int = 0
    ) -> list[Output]:
        """Predict some batches with the same draws. `first`: how many batches there were before these."""
        if self.model.training:
            self.model.eval()
        head = self.head
        keep = replace(draws.keep, noise=self._noise(head))
        predictives: list[Predictive] = [
            predictive_of(head, replace(keep, seed=mix(keep.seed, first + i))) for i in range(len(batches))
        ]
        for outputs in self._outputs(head, batches, draws, first):
            for predictive, output in zip(predictives, outputs, strict=True):
                predictive.add(*output)
                on_pass()
        return [predictive.output() for predictive in predictives]  # type: ignore[union-attr]

    def _noise(self, head: Head) -> GaussianNoise | None:
        if head.likelihood == "gaussian" and self.stored.noise is None:
            raise InputError(
                "The noise variance of this posterior is not known, since it was saved before training: train the "
                "model with ScoreVITrainer, or give PosteriorConfig(noise_variance=...)."
            )
        return self.stored.noise

    def _outputs(
        self, head: Head, batches: Sequence[Batch], draws: Draws, first: int
    ) -> Iterator[list[tuple[Tensor, ...]]]:
        """Yield for each draw its outputs for each batch."""
        generates = head.likelihood == "distribution"
        numbers = {id(batch): first + i for i, batch in enumerate(batches)}
        output_of = partial(_predicted, head)

        def drawn(model: nn.Module, batch: Batch, seed: int) -> tuple[Tensor, ...]:
            if generates:
                paths = draws.keep.paths_per_draw
                return (generated_paths(base_of(model), batch, paths, mix(seed, numbers[id(batch)])),)
            return output_of(model(**batch))

        if draws.seeds is None:
            self.posterior.require_mean()
            yield self._mean_outputs(batches, lambda model, batch: drawn(model, batch, draws.keep.seed), generates)
        elif draws.at_once == 1:
            twins = Twins(self.model, self.posterior, self._kept)
            yield from drawn_outputs(twins, draws.seeds, draws.scale, batches, drawn, draws.prepare)
        elif generates:
            raise ValueError(f"{type(self._base).__name__} samples paths one draw at a time: leave out draws_at_once.")
        else:
            parts = self.model, self.posterior
            for start in range(0, len(draws.seeds), draws.at_once):
                seeds = draws.seeds[start : start + draws.at_once]
                yield from vectorised_outputs(*parts, seeds, draws.scale, batches, output_of, self._kept)

    def _mean_outputs(
        self, batches: Sequence[Batch], output_of: Callable[[nn.Module, Batch], Any], generates: bool
    ) -> list[Any]:
        """
        Return the outputs under the mean. If passes store something in the modules, which draws would then find there,
        they run in a twin; the first passes do, to learn whether they store anything.
        """
        if self._leaves_traces is False and not generates:
            return [output_of(self.model, batch) for batch in batches]
        twin = Twin(self.model, {}, self._kept)
        model = twin.fold()
        if self._leaves_traces is None:
            twin.watch()
        outputs = [output_of(model, batch) for batch in batches]
        if self._leaves_traces is None:
            self._leaves_traces = twin.leaves_traces()
        return outputs

    @property
    def _base(self) -> nn.Module:
        """The model without its adapter."""
        return base_of(self.model)

    def _moved(self, batch: Batch) -> dict[str, Any]:
        device = self.device
        return {name: v.to(device) if isinstance(v, Tensor) else v for name, v in batch.items()}

    @property
    def input_names(self) -> set[str]:
        """The arguments of the model's forward (or a forecaster's `generate`), without labels."""
        model, head = self._base, self.head
        function: Any = model.generate if head.likelihood == "distribution" else model.forward
        return set(inspect.signature(function).parameters) - {"labels", *head.targets, *find_labels(type(model))}

    def inputs_of(self, batch: Batch) -> dict[str, Any]:
        """Return the arguments of the model's forward in a batch, without labels, since no loss is wanted."""
        names = self.input_names
        return {name: value for name, value in batch.items() if name in names}


def _predicted(head: Head, outputs: Any) -> tuple[Tensor, ...]:
    """Return a model's outputs in the form that `Predictive.add` takes."""
    found = head.all_predicted(outputs)
    if head.normalises:
        return (*found, outputs["scale"])
    if head.is_assumed and head.has_classes and (found[0].dim() < 2 or found[0].shape[-1] < 2):
        raise TypeError(
            f"The {head.predictions[0]} of the model have the shape {tuple(found[0].shape)}, not a classifier's, "
            "(batch, classes); and its posterior knows no noise variance of a regression."
        )
    return found


class _Groups:
    """Neighbouring batches: at most `most` at a time, and not many bytes."""

    def __init__(self, batches: Iterable[dict[str, Any]], limit: int) -> None:
        self._batches, self._limit, self.most = iter(batches), limit, 1

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        while first := next(self._batches, None):
            size = max(1, sum(v.nbytes for v in first.values() if isinstance(v, Tensor)))
            others = min(self.most, self._limit // size) - 1 if size < self._limit else 0
            yield [first, *islice(self._batches, others)]


def _num_bytes(output: Output) -> int:
    """Return the size of a prediction's largest table."""
    return max(value.nbytes for value in output.examples_first().values())
