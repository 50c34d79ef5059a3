"""Series for the commands: a table, and its windows in the form that a forecaster takes."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from ..errors import InputError
from ..image_data import load_rows
from ..modeling import BayesianModel
from ..time_series import SeriesProcessor, SeriesTable, calendar_features, read_table, windows_for
from ..time_series.table import SUFFIXES

__all__ = ["read_series", "windows"]


def windows(
    model: BayesianModel, processor: SeriesProcessor, options: argparse.Namespace
) -> tuple[Any, dict[str, str | None]]:
    """Load the windows of a whole table, standardised, and return them with the data's names for an `Evaluation`."""
    table, described = read_series(options.dataset, processor, options)
    features = None
    if getattr(model.config, "num_time_features", 0):
        if table.times is None:
            raise InputError(f"The model takes time features, and {options.dataset} has no time stamps.")
        features = calendar_features(table.times)
    values = processor.standardize(table.values)
    found: Any = windows_for(model.config, values, stride=options.stride, time_features=features)
    count = options.max_examples
    if count is not None and count < len(found):
        found = Subset(found, sorted(random.Random(options.seed).sample(range(len(found)), count)))
        part = f"{count} windows drawn with seed {options.seed}"
        described["split"] = f"{described['split']}, {part}" if described.get("split") else part
    return found, described


def read_series(
    source: str, processor: SeriesProcessor, options: argparse.Namespace
) -> tuple[SeriesTable, dict[str, str | None]]:
    """Read the processor's channels from a table, and return them with the data's names for an `Evaluation`."""
    if source.endswith(SUFFIXES):
        return read_table(source, channels=processor.channels), {"dataset": Path(source).name}
    suffixes = ", ".join(SUFFIXES)
    remedy = f"Give a data set of the Hub with its configuration and split, or a file that ends in {suffixes}."
    where = {"split": options.split, "token": options.token}
    rows = load_rows(f"{source} cannot be loaded", remedy, source, options.config, **where)
    described = {"dataset": source, "dataset_config": options.config, "split": options.split}
    return read_table(rows, channels=processor.channels), described
