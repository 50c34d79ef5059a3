"""Measuring a checkpoint: the trainer's own evaluation, without training."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from torch.utils.data import Dataset
from transformers import BaseImageProcessor, PreTrainedConfig

from .hub import Evaluation, StoredPosterior
from .image_data import MODES, InputError, label_codes, load_file, load_folder, to_image
from .modeling import BayesianModel
from .training import ScoreVITrainingArguments
from .training.posterior_trainer import PosteriorTrainer

__all__ = ["evaluate", "load_images"]


def evaluate(
    model: BayesianModel,
    dataset: Dataset,
    *,
    num_samples: int = 16,
    seed: int = 0,
    batch_size: int = 32,
    **arguments: Any,
) -> Evaluation:
    """
    Figures of `model` on `dataset`: the same that `ScoreVITrainer.evaluate` gives, on the device that it would use.

    Args:
        dataset: of rows as the model's forward takes them, with `labels`.
        num_samples: posterior draws S; each costs a pass over the data.
        seed: of the draws.
        arguments: further `TrainingArguments`, e.g. `dataloader_num_workers`, `use_cpu`, `bf16`.

    Raises:
        ValueError: there are no figures for such a model or data (several labels an example, no labels).
    """
    with TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder,
            "per_device_eval_batch_size": batch_size,
            "eval_num_samples": num_samples,
            "seed": seed,
            "report_to": "none",
            "remove_unused_columns": False,
            "label_names": ["labels"],
        }
        args = ScoreVITrainingArguments(**(settings | arguments))  # type: ignore[arg-type]
        evaluator = _Evaluator(model, args)
        evaluator.evaluate(dataset)
    if evaluator.evaluation is None:
        raise ValueError(
            f"There are no figures for {type(model.model).__name__} on these data: they need `labels`, one class or "
            "one number (or several) an example."
        )
    return evaluator.evaluation


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
        source: data set of the Hub, folder with a subfolder of images a class, or file of rows.
        model_config: of the classifier, whose classes the labels are matched with by name.
        config, split: of a data set of the Hub.
        max_examples: so many of them, drawn by `seed`.

    Raises:
        InputError: there are no such data, columns or classes.
    """
    described: dict[str, str | None] = {"dataset": Path(source).name}
    if Path(source).is_dir():
        data = load_folder(source)
    elif Path(source).suffix and ("*" in source or Path(source).is_file()):
        data = load_file(source)
    else:
        data = datasets.load_dataset(source, config, split=split, token=token)
        described = {"dataset": source, "dataset_config": config, "split": split}
    assert data is not None
    for column in (image_column, label_column):
        if column not in data.column_names:
            raise InputError(
                f"{source} has no column {column!r}; its columns are {', '.join(data.column_names)}. Name the image's "
                "and the label's."
            )
    data = data.select_columns([image_column, label_column])
    id2label: dict[Any, str] = model_config.id2label or {}
    names = [id2label[i] for i in sorted(id2label)]
    if all(name == f"LABEL_{i}" for i, name in enumerate(names)):  # the model does not know its classes' names
        values = data.features[label_column]
        names = list(getattr(values, "names", map(str, range(len(names)))))
    codes = label_codes(data, label_column, names, "evaluation")
    if max_examples is not None and max_examples < len(data):
        data = data.shuffle(seed).select(range(max_examples))
    mode = MODES[getattr(model_config, "num_channels", 3)]
    folder = Path(source).parent

    def transform(batch: dict[str, list[Any]]) -> dict[str, Any]:
        images = [to_image(value, mode, folder) for value in batch[image_column]]
        pixel_values = processor(images, return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixel_values, "labels": [codes[value] for value in batch[label_column]]}

    return data.with_transform(transform), described


class _Evaluator(PosteriorTrainer):
    def __init__(self, model: BayesianModel, args: ScoreVITrainingArguments) -> None:
        super().__init__(model.model, args)
        self.posterior = model.posterior
        self.posterior.to_params_device()
        self._stored = model.stored

    def _stored_posterior(self) -> StoredPosterior:
        return self._stored

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Figures are the caller's to show."""
