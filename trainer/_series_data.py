"""The series to forecast: where it comes from, its parts in time, and its windows as a model takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from transformers import PreTrainedConfig

from hf_scorevi.errors import InputError
from hf_scorevi.image_data import load_rows
from hf_scorevi.time_series import (
    SeriesProcessor,
    SeriesTable,
    SlidingWindows,
    Splits,
    calendar_features,
    chronological_splits,
    ett_rows,
    fraction_rows,
    past_length,
    read_table,
    windows_for,
)

__all__ = ["DataArguments", "SeriesData", "load_table", "make_windows", "part_rows"]

_PARTS = ("train", "validation", "test")


@dataclass
class DataArguments:
    """Where the series is, and how it is cut. One source: a file, or a dataset of the Hub."""

    _argument_group_name: ClassVar[str] = "data"

    train_file: str | None = field(
        default=None,
        metadata={"help": "Table with a row for each time step: .csv or .txt, perhaps .gz, or .parquet."},
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Dataset on the Hub, or its local copy."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    dataset_split_name: str = field(default="train", metadata={"help": "Its split that holds the series."})
    channels: list[str] | None = field(
        default=None, metadata={"help": "Columns to forecast; if not given, all but the time stamps."}
    )
    time_column: str | None = field(
        default=None, metadata={"help": "Column of the time stamps; if not given, the first that looks like it."}
    )
    separator: str | None = field(
        default=None, metadata={"help": "Of the columns in a text file: one character, tab or space; else found out."}
    )
    decimal: Literal[".", ","] | None = field(
        default=None, metadata={"help": "Decimal sign of the numbers; if not given, what they tell."}
    )
    dayfirst: bool | None = field(
        default=None, metadata={"help": "Whether 02.01.2024 is in January; if not given, what the dates tell."}
    )
    missing: Literal["error", "ffill", "interpolate"] = field(
        default="error",
        metadata={"help": "What to do about missing values: refuse them, take the last value, or a straight line."},
    )
    irregular: Literal["error", "warn"] = field(
        default="error",
        metadata={"help": "Time stamps that do not rise by equal steps: refuse them, or warn and ignore them."},
    )
    split: list[str] = field(
        default_factory=lambda: ["0.7", "0.1", "0.2"],
        metadata={"help": "Training, validation and test, one after another: three shares, or three numbers of rows; "
                          "or etth or ettm, the 12, 4 and 4 months of the ETT data."},
    )  # fmt: skip
    context_length: int | None = field(
        default=None,
        metadata={"help": "Time steps to forecast from; if not given, the model's, of a new one twice the horizon."},
    )
    prediction_length: int | None = field(
        default=None, metadata={"help": "Time steps to forecast; if not given, the model's, of a new one 48."}
    )
    stride: int = field(default=1, metadata={"help": "Time steps from one training window to the next."})
    eval_stride: int = field(default=1, metadata={"help": "The same of the windows to evaluate on."})

    def __post_init__(self) -> None:
        for name in ("context_length", "prediction_length", "stride", "eval_stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not (self.train_file or self.dataset_name):
            raise ValueError("no data: give --train_file or --dataset_name")
        if self.train_file and self.dataset_name:
            raise ValueError("--train_file and --dataset_name are different sources of data: give one of them")


@dataclass
class SeriesData:
    """
    The windows of each part, and where its first begins.

    Attributes:
        windows: of `train`, `validation` and `test`, those that have any.
        splits: rows of each part.
    """

    windows: dict[str, SlidingWindows]
    splits: Splits


def load_table(args: DataArguments, token: str | None) -> SeriesTable:
    """The whole series."""
    source: Any = args.train_file
    if args.dataset_name:
        names = (args.dataset_name, args.dataset_config_name)
        problem = f"The dataset {args.dataset_name!r} cannot be read"
        remedy = "Check --dataset_name, --dataset_config_name and --dataset_split_name."
        source = load_rows(problem, remedy, *names, split=args.dataset_split_name, token=token)
    return read_table(
        source,
        channels=args.channels,
        time_column=args.time_column,
        separator=args.separator,
        decimal=args.decimal,
        dayfirst=args.dayfirst,
        missing=args.missing,
        irregular=args.irregular,
    )


def part_rows(split: list[str], length: int) -> tuple[int, int, int]:
    """Rows of training, validation and test, of a series of `length`."""
    if split in (["etth"], ["ettm"]):
        return ett_rows(length, 1 if split == ["etth"] else 4)
    try:
        numbers = [float(text) for text in split]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 0:
        raise InputError(
            f"--split {' '.join(split)} is not understood: give three shares (0.7 0.1 0.2), three numbers of rows "
            "(8640 2880 2880), or etth or ettm."
        )
    if sum(numbers) <= 1.01:
        return fraction_rows(length, numbers)
    train, validation, test = (int(number) for number in numbers)
    if [train, validation, test] != numbers or train + validation + test > length:
        raise InputError(
            f"--split {' '.join(split)} must be three whole numbers of rows, of the {length} that there are, or three "
            "shares with the sum 1."
        )
    return train, validation, test


def make_windows(
    table: SeriesTable,
    rows: tuple[int, int, int],
    processor: SeriesProcessor,
    config: PreTrainedConfig,
    args: DataArguments,
) -> SeriesData:
    """The windows of each part, standardised, as a model of this configuration takes them."""
    splits = chronological_splits(rows, past_length(config))
    values = processor.standardize(table.values)
    features = _time_features(table, config)
    windows = {}
    for name, part, count in zip(_PARTS, splits, rows, strict=True):
        if count:
            windows[name] = windows_for(
                config,
                values[part],
                stride=args.stride if name == "train" else args.eval_stride,
                time_features=None if features is None else features[part],
            )
    return SeriesData(windows, splits)


def _time_features(table: SeriesTable, config: PreTrainedConfig) -> np.ndarray | None:
    """Those of the calendar, if the model takes any."""
    if not getattr(config, "num_time_features", 0):
        return None
    if table.times is None:
        raise InputError(
            "The model takes time features, but the data have no time stamps: name their column with --time_column, "
            "or give a model without (--model_config '{\"num_time_features\": 0}')."
        )
    return calendar_features(table.times)
