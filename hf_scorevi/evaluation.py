"""Evaluate a checkpoint as the trainer would, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .heads import Head
from .hub import Evaluation, StoredPosterior
from .labelled_data import load_images
from .modeling import BayesianModel
from .padding import Collator
from .posthoc import example_hashes
from .predictive import PredictiveOutput, RegressionOutput, SpanOutput
from .random_state import cuda_devices, preserved_random_state
from .training import ScoreVITrainingArguments
from .training.likelihood import stored_likelihood
from .training.saving import SavingTrainer

__all__ = ["Measurement", "evaluate", "load_images", "measure"]

_EMPTY = "There are no figures of no data: the dataset is empty."


@dataclass
class Measurement:
    """
    The results of a pass over a data set.

    Attributes:
        evaluation: the figures.
        labels: of the examples, as in the data.
        prediction: for them, on the CPU; `None` where outputs are no table.
    """

    evaluation: Evaluation
    labels: np.ndarray
    prediction: PredictiveOutput | RegressionOutput | SpanOutput | None

    @property
    def probabilities(self) -> np.ndarray:
        """The predictive of a classifier, (examples, classes), in float64, which keeps what float32 rounds to zero."""
        if not isinstance(self.prediction, PredictiveOutput):
            raise ValueError("Only classifiers have probabilities.")
        return self.prediction.log_probs.double().softmax(-1).numpy()


def evaluate(
    model: BayesianModel, dataset: Dataset | datasets.Dataset, *, batch_size: int = 32, **arguments: Any
) -> Evaluation:
    """
    Return the figures of `model` on `dataset`, without keeping predictions. The arguments are those of `measure`.

    Raises:
        ValueError, TypeError: as in `measure`.
    """
    with _evaluator(model, dataset, batch_size=batch_size, **arguments) as evaluator:
        evaluator.evaluate(dataset)  # type: ignore[arg-type]
    return _evaluation_of(evaluator)


def measure(
    model: BayesianModel,
    dataset: Dataset | datasets.Dataset,
    *,
    num_samples: int = 16,
    seed: int = 0,
    batch_size: int = 32,
    data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
    processing_class: Any = None,
    **arguments: Any,
) -> Measurement:
    """
    Return what `model` predicts for `dataset`, and its figures: those of `ScoreVITrainer.evaluate`. The model is moved
    to the device that the trainer would use, and stays there.

    Args:
        dataset: of rows as the model's forward takes them, with `labels`, a forecaster's with `future_values`; a
            stream (`IterableDataset`) is read once.
        num_samples: posterior draws S; each costs a pass over the data.
        seed: of the draws.
        batch_size: rows at a time.
        data_collator: makes batches of the rows; default: they are padded by `processing_class`, or stacked, being of
            one shape.
        processing_class: the tokenizer or feature extractor that has made the rows, as the Trainer takes it.
        arguments: further `TrainingArguments`, e.g. `dataloader_num_workers`, `use_cpu`, `bf16`.

    Raises:
        ValueError: there are no figures for such a model or data (no labels, no rows, several data sets at once), or
            the model was recalibrated on some of these data.
        TypeError: `dataset` is not a data set, but a loader or a generator, for instance.
    """
    given = {"num_samples": num_samples, "seed": seed, "batch_size": batch_size, "data_collator": data_collator}
    together = {"eval_do_concat_batches": True}  # which is how a `Measurement` has them
    with _evaluator(model, dataset, processing_class=processing_class, **(given | arguments | together)) as evaluator:
        prediction = evaluator.predict(dataset)  # type: ignore[arg-type]
    return Measurement(_evaluation_of(evaluator), prediction.label_ids, prediction.predictive)  # type: ignore[arg-type]


@contextmanager
def _evaluator(
    model: BayesianModel,
    dataset: Any,
    *,
    batch_size: int,
    num_samples: int = 16,
    seed: int = 0,
    data_collator: Any = None,
    processing_class: Any = None,
    **arguments: Any,
) -> Iterator[_Evaluator]:
    """Yield a trainer that evaluates `model` and leaves nothing else changed."""
    _check_dataset(dataset)
    head = model.head
    with TemporaryDirectory() as folder, preserved_random_state(*cuda_devices()), _kept_attributes(model.model):
        settings = {
            "output_dir": folder,
            "per_device_eval_batch_size": batch_size,
            "eval_num_samples": num_samples,
            "seed": seed,
            "report_to": "none",
            "remove_unused_columns": False,
            "label_names": list(head.targets),
        }
        args = ScoreVITrainingArguments(**(settings | arguments))  # type: ignore[arg-type]
        if args.fp16_full_eval or args.bf16_full_eval:
            raise ValueError("fp16_full_eval and bf16_full_eval would round the weights for good; use bf16=True.")
        if args.n_gpu > 1:
            args._n_gpu = 1  # nn.DataParallel would copy the weights at every pass
        names = None if processing_class is None else model.input_names | set(head.targets)
        collator = data_collator or Collator(processing_class, names, by_token=head.task == "tokens")
        try:
            yield _Evaluator(model, args, collator)
        except ValueError as error:
            if "does not contain any data" in str(error):  # accelerate's word for the end of an empty stream
                raise ValueError(_EMPTY) from error
            raise


def _evaluation_of(evaluator: _Evaluator) -> Evaluation:
    if evaluator.evaluation is None:
        head = evaluator.head
        raise ValueError(
            f"There are no figures for {type(evaluator.model).__name__} on these data: they need "
            f"`{'` and `'.join(head.targets)}`, for what it predicts ({head.task}), and one example at least."
        )
    return evaluator.evaluation


def _check_dataset(dataset: Any) -> None:
    """Raise an error unless this is a single data set that has rows."""
    if isinstance(dataset, dict) or (isinstance(dataset, list | tuple) and any(map(_is_dataset, dataset))):
        names = f" ({', '.join(map(str, dataset))})" if isinstance(dataset, dict) else ""
        raise ValueError(f"These are several data sets{names}: measure on one of them at a time, on one split.")
    if isinstance(dataset, DataLoader):
        raise TypeError("Give the data set itself (loader.dataset), and its batch_size and data_collator.")
    if not _is_dataset(dataset) and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"A {type(dataset).__name__} is no data set: give one of datasets or of torch, or a list of rows; a "
            "function that yields rows becomes one by datasets.IterableDataset.from_generator."
        )
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(_EMPTY)


def _is_dataset(value: Any) -> bool:
    return isinstance(value, Dataset | datasets.Dataset | datasets.IterableDataset)


@contextmanager
def _kept_attributes(model: nn.Module) -> Iterator[None]:
    """Remove, after the `with` block, the attributes that Accelerate and autocast have set on a model."""
    before = set(vars(model))
    try:
        yield
    finally:
        for name in vars(model).keys() - before:
            delattr(model, name)


class _Evaluator(SavingTrainer):
    _begins_posterior = False

    def __init__(self, model: BayesianModel, args: ScoreVITrainingArguments, data_collator: Any) -> None:
        self._predictor = model
        super().__init__(model.model, args, data_collator)
        self.recalibration = model.recalibration
        self.posterior, self.posterior_config = model.posterior, model.posterior_config
        self.likelihood = stored_likelihood(model.stored)
        self.posterior.to_params_device()
        self._kept = model._kept
        self._stored = model.stored

    def _find_head(self, model: nn.Module) -> Head:
        return self._predictor.head

    def _stored_posterior(self) -> StoredPosterior:
        return self._stored

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        fitted = self.recalibration
        if fitted is not None and fitted.seen.knows(example_hashes(self._predictor.inputs_of(inputs))):
            raise ValueError(
                f"Some of these data are among those that the model was recalibrated on ({fitted.dataset}), so their "
                "figures would be too good. Measure on others."
            )
        return super().prediction_step(model, inputs, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Do nothing, since the caller shows the figures."""
