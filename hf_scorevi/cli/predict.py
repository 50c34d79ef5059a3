"""`hf-scorevi predict`."""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints import (
    SERIES,
    TEXTS,
    Loaded,
    add_checkpoint,
    add_draws,
    add_text_columns,
    check_fit,
    enough_memory,
    load_model,
    place,
)
from .options import command, new_file, positive

if TYPE_CHECKING:
    from ..predictive import PredictiveOutput, RegressionOutput

__all__ = ["add_predict"]

_SUFFIXES = (".csv", ".jsonl")
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_UNCERTAINTIES = ("entropy", "expected_entropy", "mutual_information")

Row = dict[str, Any]


def add_predict(commands: Any) -> None:
    parser = command(
        commands,
        _predict,
        "predict",
        "REPO INPUT ... --output FILE",
        "predict classes, numbers or forecasts, with their uncertainty",
        "Predict with the posterior predictive. Of a classifier of images, texts or recordings the file has for each "
        "input its class and its probability, the other likely classes, the entropy, and its parts: expected_entropy "
        "and mutual_information, what comes from the weights' uncertainty. Of a regression on texts it has the mean, "
        "standard deviations and quantiles; of a forecaster these for each step after the series, and channel, in its "
        "own units.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="image or audio file, or folder of these; file of texts: .txt, one a line, or of rows: csv, json, jsonl, "
        "parquet, arrow; table of a series: csv, txt, parquet",
    )
    parser.add_argument(
        "--output", metavar="FILE", type=_table_file, required=True, help=f"where to, {' or '.join(_SUFFIXES)}"
    )
    how = parser.add_argument_group("how to predict")
    add_text_columns(how)
    how.add_argument("--top-k", metavar="K", type=positive, default=5, help="of a classifier: classes to name")
    how.add_argument(
        "--quantiles",
        metavar="Q",
        nargs="+",
        type=_level,
        default=(),
        help=f"of numbers and forecasts (default: {' '.join(map(str, _LEVELS))})",
    )
    add_draws(how)


def _table_file(text: str) -> Path:
    if not text.endswith(_SUFFIXES):
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(_SUFFIXES)}, not be {text!r}")
    return new_file(text)


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 < level < 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, not {text!r}")
    return level


def _predict(options: argparse.Namespace) -> None:
    import torch

    from ..hub import fetch_checkpoint, write_aside

    loaded = load_model(options, fetch_checkpoint(options.name, **place(options)))
    if loaded.model.task not in loaded.kind.tasks:
        raise ValueError(f"{options.name} predicts {loaded.model.task}; predict it in Python, with model.predict.")
    if not options.use_cpu and torch.cuda.is_available():
        loaded.model.to("cuda")
    with enough_memory():
        rows = _forecasts(loaded, options) if loaded.kind is SERIES else _predictions(loaded, options)
    write = _write_csv if options.output.suffix == ".csv" else _write_jsonl
    write_aside(options.output, partial(write, rows))
    print(f"{len(rows):,} rows in {options.output}")


def _write_csv(rows: list[Row], path: Path) -> None:
    flat = [_flat(row) for row in rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)


def _flat(row: Row) -> Row:
    """Put the other likely classes into columns of their own."""
    others = row.get("top", [])[1:]
    columns = {f"{name}_{i}": own[name] for i, own in enumerate(others, 2) for name in ("label", "probability")}
    return {name: value for name, value in row.items() if name != "top"} | columns


def _write_jsonl(rows: list[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class _Inputs:
    """Rows that are made when they are accessed."""

    def __init__(self, values: list[tuple[Any, ...]], make: Callable[..., dict[str, Any]]) -> None:
        self._values, self._make = values, make

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if i >= len(self):
            raise IndexError(i)
        return {name: own[0] for name, own in self._make(*([value] for value in self._values[i])).items()}


def _predictions(loaded: Loaded, options: argparse.Namespace) -> list[Row]:
    from ..predictive import RegressionOutput

    named, make = (_texts if loaded.kind is TEXTS else _files)(loaded, options)
    inputs: Any = _Inputs([tuple(row.values()) for row in named], make)
    if named:
        check_fit(replace(loaded, data=inputs))
    output = loaded.model.predict_dataset(
        inputs,
        batch_size=options.batch_size,
        processing_class=loaded.part,
        num_samples=options.num_samples,
        seed=options.seed,
        quantile_levels=options.quantiles or _LEVELS,
    )
    found = _numbers(output) if isinstance(output, RegressionOutput) else _classes(output, loaded, options.top_k)
    return [row | own for row, own in zip(named, found, strict=True)]


def _files(loaded: Loaded, options: argparse.Namespace) -> tuple[list[Row], Callable[..., dict[str, Any]]]:
    """Return the names of images or recordings, and the function that makes the model's inputs from them."""
    from PIL import Image

    from ..audio_data import AUDIO_SUFFIXES
    from ..errors import InputError
    from ..labelled_data import audio_inputs, image_inputs

    if loaded.kind.part == "image_processor":
        suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        make = image_inputs(loaded.part, loaded.model.config, Path())
    else:
        suffixes, make = set(AUDIO_SUFFIXES), audio_inputs(loaded.part, Path())
    named = []
    for text in options.inputs:
        path = Path(text)
        if not path.exists():
            raise InputError(f"There is no file or folder {text!r}.")
        inside = [own for own in sorted(path.rglob("*")) if own.suffix.lower() in suffixes]
        if path.is_dir() and not inside:
            raise InputError(f"There are no {loaded.kind.inputs} in {text!r}.")
        named += [{"file": str(own)} for own in (inside if path.is_dir() else [path])]
    return named, make


def _texts(loaded: Loaded, options: argparse.Namespace) -> tuple[list[Row], Callable[..., dict[str, Any]]]:
    """Return texts, or pairs of them, and the function that makes the model's inputs from these."""
    from ..errors import InputError
    from ..image_data import load_file
    from ..labelled_data import TEXT_COLUMNS, find_column, text_inputs

    named: list[Row] = []
    for text in options.inputs:
        path = Path(text)
        if path.suffix == ".txt":
            if not path.is_file():
                raise InputError(f"There is no file {text!r}.")
            named += [{"text": line} for line in path.read_text(encoding="utf-8").splitlines()]
            continue
        rows = load_file(text)
        columns = {"text": find_column(rows, options.text_column, TEXT_COLUMNS, text)}
        if options.text_pair_column is not None:
            columns["text_pair"] = find_column(rows, options.text_pair_column, (), text)
        named += [
            dict(zip(columns, values, strict=True))
            for values in zip(*(rows[column] for column in columns.values()), strict=True)
        ]
    return named, text_inputs(loaded.part, loaded.model.config)


def _classes(output: PredictiveOutput, loaded: Loaded, top_k: int) -> Iterator[Row]:
    names = loaded.model.config.id2label or {}
    for i, probs in enumerate(output.probs):
        best = probs.argsort(descending=True)[:top_k].tolist()
        top = [{"label": names.get(k, k), "probability": probs[k].item()} for k in best]
        yield {**top[0], **{name: getattr(output, name)[i].item() for name in _UNCERTAINTIES}, "top": top}


def _numbers(output: RegressionOutput) -> Iterator[Row]:
    """Yield the predictions of numbers; several for an input have columns of their own."""
    count = output.mean.shape[1]
    for i in range(len(output.mean)):
        row: Row = {}
        for k in range(count):
            own = _moments(
                dict(zip(output.quantile_levels, output.quantiles[:, i, k].tolist(), strict=True)),
                output.mean[i, k].item(),
                output.epistemic_variance[i, k].item() ** 0.5,
                output.aleatoric_variance[i, k].item() ** 0.5,
            )
            row |= {name if count == 1 else f"{name}_{k}": value for name, value in own.items()}
        yield row


def _moments(quantiles: dict[float, float], mean: float, epistemic: float, aleatoric: float) -> Row:
    found = {"mean": mean, "epistemic_std": epistemic, "aleatoric_std": aleatoric}
    return found | {f"quantile_{level:g}": value for level, value in quantiles.items()}


def _forecasts(loaded: Loaded, options: argparse.Namespace) -> list[Row]:
    """Return a row for each series, step and channel."""
    import pandas as pd

    from ..pipelines import ForecastingPipeline
    from ..time_series import read_table

    forecaster = ForecastingPipeline(loaded.model, loaded.part, device=loaded.model.device)
    rows = []
    for file in options.inputs:
        table = read_table(file, channels=loaded.part.channels)
        frame = pd.DataFrame(table.values, index=table.times, columns=table.channels)
        how = {
            "num_samples": options.num_samples,
            "seed": options.seed,
            "quantile_levels": options.quantiles or _LEVELS,
        }
        found = forecaster(frame, **how)
        for step in range(len(found["mean"])):
            told: Row = {"file": file, "step": step + 1}
            if found["times"] is not None:
                told["time"] = found["times"][step].isoformat()
            for k, channel in enumerate(found["channels"]):
                values = (float(found[name][step, k]) for name in ("mean", "epistemic_std", "aleatoric_std"))
                quantiles = {level: float(own[step, k]) for level, own in found["quantiles"].items()}
                rows.append(told | {"channel": channel} | _moments(quantiles, *values))
    return rows
