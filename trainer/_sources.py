"""Labelled rows to train and evaluate a classifier on, from the Hub, folders or files, and their classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset

from hf_scorevi.image_data import InputError, load_file

__all__ = ["SourceArguments", "load_data"]


@dataclass
class SourceArguments:
    """Where the data are. Exactly one source."""

    _argument_group_name: ClassVar[str] = "data"

    dataset_name: str | None = field(default=None, metadata={"help": "Dataset on the Hub, or its local copy."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    train_split_name: str = field(default="train", metadata={"help": "Its split to train on."})
    validation_split_name: str | None = field(
        default=None, metadata={"help": "Its split to evaluate on; if not given, validation, else test."}
    )
    train_file: str | None = field(
        default=None, metadata={"help": "File (or glob) of rows: parquet, arrow, csv, json, jsonl."}
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    label_column_name: str = field(default="label", metadata={"help": "Column of the labels: class names or numbers."})
    train_val_split: float = field(
        default=0.1, metadata={"help": "Share of the training data to hold out if there are no others to evaluate on."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many random examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on so many random examples."})

    def __post_init__(self) -> None:
        if not 0 <= self.train_val_split < 1:
            raise ValueError(f"train_val_split must be at least 0 and below 1, not {self.train_val_split}")
        for name in ("max_train_samples", "max_eval_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        sources = {"--dataset_name": self.dataset_name} | {
            f"--train_{kind}/--validation_{kind}": train or validation
            for kind, (_, train, validation) in self.local.items()
        }
        given = [flags for flags, value in sources.items() if value]
        if not given:
            *first, last = (f"--{name}" for name in ("dataset_name", *(f"train_{kind}" for kind in self.local)))
            raise ValueError(f"no data: give {', '.join(first)} or {last}")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different sources of data: give one of them")

    @property
    def local(self) -> dict[str, tuple[Callable[[str], Dataset], str | None, str | None]]:
        """By kind of source on this machine: what loads it, the one to train on, the one to evaluate on."""
        return {"file": (load_file, self.train_file, self.validation_file)}

    @property
    def folder(self) -> Path:
        """What paths in a column are relative to."""
        return Path(self.train_file or self.validation_file or ".").parent

    @property
    def source(self) -> str | None:
        """The data on this machine that a model card names."""
        found = [place for _, train, validation in self.local.values() for place in (validation, train)]
        return next((place for place in found if place), None)

    def rows(self, dataset: Dataset) -> Dataset:
        """The columns that are wanted, once they are known to be there."""
        self.require(dataset, "label_column_name")
        return dataset

    def require(self, dataset: Dataset, *flags: str) -> None:
        """
        Raises:
            InputError: the column that one of these flags names is not there.
        """
        for flag in flags:
            name = getattr(self, flag)
            if name not in dataset.column_names:
                raise InputError(
                    f"The data have no column {name!r}; their columns are {', '.join(dataset.column_names)}. "
                    f"Name the right one with --{flag}."
                )

    def class_names(self, train: Dataset) -> list[str]:
        """The names of the classes, in the order of their numbers."""
        column = self.label_column_name
        feature = train.features[column]
        if isinstance(feature, ClassLabel):
            names = list(feature.names)
        else:
            values = train.unique(column)
            if not all(isinstance(value, str | int) for value in values):
                raise InputError(
                    f"The label column {column!r} holds {feature.dtype} or empty values; it must hold a class name or "
                    "a whole number in every row. Name the right column with --label_column_name."
                )
            names = [str(value) for value in sorted(values)]
        if len(names) < 2:
            raise InputError(f"The label column {column!r} has {len(names)} class; a classifier needs at least two.")
        return names


def load_data(
    args: SourceArguments, token: str | None, seed: int, need_train: bool
) -> tuple[Dataset | None, Dataset | None, list[str] | None]:
    """
    The data to train on, those to evaluate on, and the names of the classes in the first.

    If there are none to evaluate on, a random part of the training data is held out for it.
    """
    train, evaluation = (None if data is None else args.rows(data) for data in _load_splits(args, token))
    if train is None and need_train:
        flags = " or ".join(f"--train_{kind}" for kind in args.local)
        raise InputError(f"There are no data to train on: give {flags}, or --do_eval alone.")
    # Of all training data: a class may be missing from a part of them.
    names = args.class_names(train) if train is not None and need_train else None
    if train is not None and evaluation is None and args.train_val_split > 0:
        # Whether or not this run evaluates: a later one with the same seed then meets no row that was trained on.
        parts = train.train_test_split(args.train_val_split, seed=seed)
        train, evaluation = parts["train"], parts["test"]
    return _sample(train, args.max_train_samples, seed), _sample(evaluation, args.max_eval_samples, seed), names


def _load_splits(args: SourceArguments, token: str | None) -> tuple[Dataset | None, Dataset | None]:
    if args.dataset_name:
        return _load_hub(args, token)
    load, train, evaluation = next(own for own in args.local.values() if own[1] or own[2])
    return load(train) if train else None, load(evaluation) if evaluation else None


def _load_hub(args: SourceArguments, token: str | None) -> tuple[Dataset | None, Dataset | None]:
    splits: DatasetDict = load_dataset(args.dataset_name, args.dataset_config_name, token=token)
    if args.train_split_name not in splits:
        raise InputError(
            f"{args.dataset_name} has no split {args.train_split_name!r}; it has {', '.join(splits)}. "
            "Name the one to train on with --train_split_name."
        )
    name = args.validation_split_name
    if name is None:
        name = next((n for n in ("validation", "test") if n in splits and n != args.train_split_name), None)
    elif name not in splits:
        raise InputError(
            f"{args.dataset_name} has no split {name!r}; it has {', '.join(splits)}. "
            "Name the one to evaluate on with --validation_split_name."
        )
    return splits[args.train_split_name], None if name is None else splits[name]


def _sample(dataset: Dataset | None, size: int | None, seed: int) -> Dataset | None:
    if dataset is None or size is None or size >= len(dataset):
        return dataset
    return dataset.shuffle(seed).select(range(size))  # shuffled, as many data sets come sorted by class
