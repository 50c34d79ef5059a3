"""The tasks of the forecasting benchmark: series, splits, windows and networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PatchTSTConfig, PatchTSTForPrediction

from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, fit_mask_spectrum
from hf_scorevi.time_series import (
    SeriesProcessor,
    SlidingWindows,
    chronological_splits,
    ett_rows,
    fraction_rows,
    read_table,
)

MODELS = {"koopa": "Koopa", "patchtst": "PatchTST"}
KOOPA_FIELDS = ("dynamic_dim", "hidden_dim", "hidden_layers", "num_blocks")


@dataclass(frozen=True)
class Task:
    """A series, and Koopa's sizes for each horizon, whose context is twice as long.

    Args:
        title: for the report.
        files: names that the series may have in the data folder, the first that is there counts; none for a made one.
        koopa: horizon to the values of KOOPA_FIELDS.
        ett: whether it is split by the months of the ETT data; otherwise 70, 10 and 20 %.
    """

    title: str
    files: tuple[str, ...]
    koopa: dict[int, tuple[int, int, int, int]]
    ett: bool = False

    @property
    def shortest(self) -> int:
        return min(self.koopa)


def _named(name: str, *more: str) -> tuple[str, ...]:
    return tuple(stem + suffix for stem in (name, *more) for suffix in (".csv", ".csv.gz", ".txt.gz", ".parquet"))


_ETTH = {48: (64, 512, 2, 4), 96: (64, 64, 2, 1), 144: (64, 64, 3, 4), 192: (64, 64, 2, 1)}
# Sizes: the scripts of thuml/Koopa; for ETTh1, which has none there, those for ETTh2.
TASKS = {
    "etth1": Task("ETTh1", _named("ETTh1"), _ETTH, ett=True),
    "ili": Task(
        "ILI",
        _named("national_illness", "illness"),
        {24: (128, 512, 2, 4), 36: (512, 512, 3, 3), 48: (256, 512, 2, 2), 60: (64, 256, 4, 3)},
    ),
    "exchange": Task(
        "Exchange",
        _named("exchange_rate"),
        {48: (128, 256, 3, 4), 96: (64, 64, 3, 4), 144: (512, 64, 2, 2), 192: (64, 128, 3, 2)},
    ),
    "etth2": Task("ETTh2", _named("ETTh2"), _ETTH, ett=True),
    "ecl": Task(
        "ECL",
        _named("electricity", "ECL", "ecl_2ch"),
        {48: (256, 512, 3, 3), 96: (128, 512, 3, 1), 144: (512, 512, 3, 1), 192: (64, 512, 2, 1)},
    ),
    "weather": Task(
        "Weather",
        _named("weather", "weather_2ch"),
        {48: (128, 64, 2, 4), 96: (64, 128, 3, 2), 144: (128, 64, 2, 2), 192: (128, 64, 2, 3)},
    ),
    "traffic": Task(
        "Traffic",
        _named("traffic"),
        {48: (512, 256, 3, 1), 96: (64, 128, 2, 3), 144: (128, 128, 2, 1), 192: (128, 128, 2, 1)},
    ),
}
MADE = Task("a made series", (), {6: (8, 16, 2, 2)})


@dataclass(frozen=True)
class Data:
    """Standardised windows of one task and horizon, chronological."""

    train: SlidingWindows
    validation: SlidingWindows
    test: SlidingWindows
    channels: list[str]

    @property
    def lengths(self) -> tuple[int, int]:
        """Context and horizon."""
        return self.train.context_length, self.train.prediction_length


def find_file(task: Task, folder: Path | None) -> Path | None:
    """The task's series in the data folder, if it is there."""
    found = [folder / name for name in task.files if (folder / name).is_file()] if folder else []
    return found[0] if found else None


def made_series() -> npt.NDArray[np.float64]:
    """Two seasonal channels under noise, whose level wanders, (300, 2)."""
    random = np.random.default_rng(0)
    waves = np.sin(2 * np.pi * np.arange(300)[:, None] / np.array([6.0, 4.0])) * np.array([1.0, 1.5])
    return waves + random.normal(0, 0.3, (300, 2)) + 0.1 * random.normal(0, 1, (300, 2)).cumsum(0)


def load(task: Task, file: Path | None, horizon: int) -> Data:
    """The series split, standardised over its training rows, in windows of two horizons of past and one of future.

    Gaps and repeated times are taken as they come, as everybody does with these series.
    """
    if file is None:
        values, channels = made_series(), ["0", "1"]
    else:
        table = read_table(str(file), irregular="warn")
        values, channels = table.values, table.channels
    rows = ett_rows(len(values)) if task.ett else fraction_rows(len(values))
    splits = chronological_splits(rows, 2 * horizon)
    series = SeriesProcessor.fit(values[splits.train], channels).standardize(values)
    train, validation, test = (SlidingWindows(series[part], 2 * horizon, horizon) for part in splits)
    return Data(train, validation, test, channels)


def new_model(name: str, task: Task, data: Data) -> Any:
    """With random weights; PatchTST in the size of its paper's small data sets."""
    context, horizon = data.lengths
    channels = len(data.channels)
    if name == "koopa":
        settings: dict[str, Any] = dict(zip(KOOPA_FIELDS, task.koopa[horizon], strict=True))
        settings |= {"input_size": channels, "context_length": context, "prediction_length": horizon}
        return KoopaForPrediction(KoopaConfig(mask_spectrum=fit_mask_spectrum(data.train.values, context), **settings))
    patch = max(context // 6, 2)
    config = PatchTSTConfig(
        num_input_channels=channels,
        context_length=context,
        prediction_length=horizon,
        patch_length=patch,
        patch_stride=patch // 2,
        d_model=16,
        num_attention_heads=4,
        ffn_dim=128,
        positional_dropout=0.3,
        path_dropout=0.3,
        ff_dropout=0.3,
        scaling="std",
        use_cls_token=False,
    )
    return PatchTSTForPrediction(config)
