"""Measuring a checkpoint: the trainer's own evaluation, without training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import BaseImageProcessor, PreTrainedConfig, default_data_collator
from transformers.utils import logging

from .hub import Evaluation, StoredPosterior
from .hub.untrusted import short
from .image_data import (
    SUFFIXES,
    InputError,
    image_mode,
    image_rows,
    label_codes,
    load_file,
    load_folder,
    load_rows,
    to_image,
)
from .modeling import BayesianModel
from .posthoc import example_hashes
from .predictive import PredictiveOutput, RegressionOutput
from .training import ScoreVITrainingArguments
from .training.likelihood import stored_likelihood
from .training.posterior_trainer import PosteriorTrainer

__all__ = ["Measurement", "evaluate", "load_images", "measure"]

logger = logging.get_logger(__name__)

_EMPTY = "There are no figures of no data: the dataset is empty."


@dataclass
class Measurement:
    """
    What a pass over a data set has shown, example by example.

    Attributes:
        evaluation: the figures.
        labels: of the examples, as the data have them.
        prediction: for them, on the CPU; `None` where outputs are no table.
    """

    evaluation: Evaluation
    labels: np.ndarray
    prediction: PredictiveOutput | RegressionOutput | None

    @property
    def probabilities(self) -> np.ndarray:
        """The predictive of a classifier, (examples, classes), in float64, which keeps what float32 rounds to zero."""
        if not isinstance(self.prediction, PredictiveOutput):
            raise ValueError("Only classifiers have probabilities.")
        return self.prediction.log_probs.double().softmax(-1).numpy()


def evaluate(model: BayesianModel, dataset: Dataset | datasets.Dataset, **how: Any) -> Evaluation:
    """Figures of `model` on `dataset`: those of `measure`, which has the arguments."""
    return measure(model, dataset, **how).evaluation


def measure(
    model: BayesianModel,
    dataset: Dataset | datasets.Dataset,
    *,
    num_samples: int = 16,
    seed: int = 0,
    batch_size: int = 32,
    data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
    **arguments: Any,
) -> Measurement:
    """
    What `model` predicts for `dataset`, and how well: the same that `ScoreVITrainer.evaluate` finds, on the device
    that it would use, where the model then stays.

    Args:
        dataset: of rows as the model's forward takes them, with `labels`, a forecaster's with `future_values`; a
            stream (`IterableDataset`) is read once.
        num_samples: posterior draws S; each costs a pass over the data.
        seed: of the draws.
        batch_size: rows at a time.
        data_collator: makes batches of the rows, for instance by padding; default: rows of one shape are stacked.
        arguments: further `TrainingArguments`, e.g. `dataloader_num_workers`, `use_cpu`, `bf16`.

    Raises:
        ValueError: there are no figures for such a model or data (no labels, no rows, several data sets at once), or
            the model was recalibrated on some of these data.
        TypeError: `dataset` is nothing that rows can be taken from again and again.
    """
    _check_dataset(dataset)
    with TemporaryDirectory() as folder, _kept_random_states(), _kept_attributes(model.model):
        settings = {
            "output_dir": folder,
            "per_device_eval_batch_size": batch_size,
            "eval_num_samples": num_samples,
            "seed": seed,
            "report_to": "none",
            "remove_unused_columns": False,
            "label_names": [model.head.target],
        }
        together = {"eval_do_concat_batches": True}  # which is how a `Measurement` has them
        args = ScoreVITrainingArguments(**(settings | arguments | together))  # type: ignore[arg-type]
        if args.fp16_full_eval or args.bf16_full_eval:
            raise ValueError("fp16_full_eval and bf16_full_eval would round the weights for good; use bf16=True.")
        if args.n_gpu > 1:
            args._n_gpu = 1  # nn.DataParallel would copy the weights at every pass
        evaluator = _Evaluator(model, args, data_collator or _stacked)
        try:
            prediction = evaluator.predict(dataset)  # type: ignore[arg-type]
        except ValueError as error:
            if "does not contain any data" in str(error):  # accelerate's word for the end of an empty stream
                raise ValueError(_EMPTY) from error
            raise
    found: Any = prediction.predictions
    if found is None and not args.prediction_loss_only:  # of a stream, whose length tells nobody
        raise ValueError(_EMPTY)
    if evaluator.evaluation is None:
        raise ValueError(
            f"There are no figures for {type(model.model).__name__} on these data: they need `{model.head.target}`, "
            "one class or one number (or several) an example."
        )
    return Measurement(evaluator.evaluation, prediction.label_ids, prediction.predictive)  # type: ignore[arg-type]


def _check_dataset(dataset: Any) -> None:
    """That this is one data set, and there are rows to take."""
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


def _stacked(rows: list[Any]) -> dict[str, Any]:
    """A batch of rows of one shape."""
    if not isinstance(rows[0], Mapping) and not hasattr(rows[0], "__dict__"):
        raise TypeError(
            f"A row is a {type(rows[0]).__name__}, not a dictionary of inputs and labels: give a data_collator "
            "that makes such a dictionary of a list of rows."
        )
    return default_data_collator(rows)


def _is_dataset(value: Any) -> bool:
    return isinstance(value, Dataset | datasets.Dataset | datasets.IterableDataset)


def load_images(
    source: str,
    model_config: PreTrainedConfig,
    processor: BaseImageProcessor,
    *,
    config: str | None = None,
    split: str = "test",
    image_column: str = "image",
    label_column: str = "label",
    max_examples: int | None = None,
    seed: int = 0,
    token: str | bool | None = None,
) -> tuple[datasets.Dataset, dict[str, str | None]]:
    """
    Labelled images as a classifier takes them, and what an `Evaluation` calls them.

    Args:
        source: data set of the Hub, folder with a subfolder of images a class, or file of rows (or glob of files).
        model_config: of the classifier, whose classes the labels are matched with by name.
        config, split: of a data set of the Hub.
        max_examples: so many of them, drawn by `seed`. The split's name then says so: they are not the whole.

    Raises:
        InputError: there are no such data, columns or classes.
    """
    if not source:
        raise InputError("There is no data set without a name: give one of the Hub, a folder, or a file.")
    path = Path(source)
    data, described = _load(source, config, split, token)
    for column in (image_column, label_column):
        if column not in data.column_names:
            raise InputError(
                f"{source} has no column {column!r}; its columns are {', '.join(data.column_names)}. Name the image's "
                "and the label's."
            )
    data = image_rows(data, image_column, label_column)
    codes = label_codes(data, label_column, _class_names(model_config, data.features[label_column]), "evaluation")
    if max_examples is not None and max_examples < len(data):
        data = data.shuffle(seed).select(range(max_examples))
        part = f"{max_examples} examples drawn with seed {seed}"
        described["split"] = f"{described['split']}, {part}" if described.get("split") else part
    mode = image_mode(getattr(model_config, "num_channels", 3))

    def transform(batch: dict[str, list[Any]]) -> dict[str, Any]:
        images = [to_image(value, mode, path.parent) for value in batch[image_column]]
        pixel_values = processor(images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixel_values, "labels": [codes[value] for value in batch[label_column]]}

    return data.with_transform(transform), described


def _load(
    source: str, config: str | None, split: str, token: str | bool | None
) -> tuple[datasets.Dataset, dict[str, str | None]]:
    path = Path(source)
    if path.is_dir():
        return load_folder(source), {"dataset": path.resolve().name}
    if path.suffix in SUFFIXES or path.is_file():
        return load_file(source), {"dataset": path.name}
    remedy = "Give a data set of the Hub with its configuration and split, a folder of images, or a file of rows."
    data = load_rows(f"{source} cannot be loaded", remedy, source, config, split=split, token=token)
    return data, {"dataset": source, "dataset_config": config, "split": split}


def _class_names(config: PreTrainedConfig, feature: Any) -> list[str]:
    """The model's; if it only numbers its classes, and the data name as many, those of the data."""
    id2label: dict[Any, str] = config.id2label or {}
    if not (isinstance(id2label, dict) and all(i in id2label for i in range(len(id2label)))):
        raise InputError(
            f"The model's configuration numbers its classes {short(sorted(map(str, id2label)))}, not from 0 on. Mend "
            "id2label in its config.json."
        )
    found: list[Any] = [id2label[i] for i in range(len(id2label))]
    names = [str(name) if isinstance(name, int) else name for name in found]
    numbered = names == [f"LABEL_{i}" for i in range(len(names))]
    if numbered and isinstance(feature, datasets.ClassLabel) and feature.num_classes == len(names):
        logger.warning(
            "The model does not name its classes; they are taken to be numbered as the data's are: "
            f"{', '.join(f'{i} {name}' for i, name in enumerate(feature.names[:5]))}{', …' if len(names) > 5 else ''}."
        )
        return list(feature.names)
    return names


@contextmanager
def _kept_random_states() -> Iterator[None]:
    """The Trainer seeds all global generators; after the `with` they are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _kept_attributes(model: nn.Module) -> Iterator[None]:
    """Accelerate leaves a mark on a model, and autocast around its forward; after the `with` they are gone."""
    before = set(vars(model))
    try:
        yield
    finally:
        for name in vars(model).keys() - before:
            delattr(model, name)


class _Evaluator(PosteriorTrainer):
    def __init__(self, model: BayesianModel, args: ScoreVITrainingArguments, data_collator: Any) -> None:
        super().__init__(model.model, args, data_collator)
        self._predictor = model
        self.recalibration = model.recalibration
        self.posterior, self.posterior_config = model.posterior, model.posterior_config
        self.likelihood = stored_likelihood(model.stored)
        self.posterior.to_params_device()
        self._kept = model._kept
        self._stored = model.stored

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
        """Figures are the caller's to show."""
