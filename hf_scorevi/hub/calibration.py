"""What was measured of a checkpoint, on which data and by which conventions: `calibration.json`, and for a card."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from transformers.utils import logging

from ..errors import PosteriorCheckpointError
from ..json_values import json_flag, json_list, json_number, json_object, json_text, json_whole, short
from ..metrics import FIGURES, ReliabilityBins
from ..posthoc import Recalibration
from .card_merging import OWNER, identifier, plain
from .files import is_there, remove, write_aside
from .loading import read_config, stored_files
from .untrusted import read_json

__all__ = [
    "CALIBRATION_NAME",
    "Evaluation",
    "add_evaluation",
    "read_evaluations",
    "read_recalibration",
    "write_evaluations",
]

CALIBRATION_NAME = "calibration.json"
# The figures on a card, in its order, and what they and the weights are called there.
_ON_CARDS = ("accuracy", "mse", "mae", "nll", "perplexity", "ece", "classwise_ece", "adaptive_ece", "brier", "crps",
             "coverage_50", "coverage_80", "coverage_90", "coverage_95")  # fmt: skip
METRICS = {name: FIGURES[name].label.removesuffix(" score") for name in _ON_CARDS}  # columns are narrow
BINNED = tuple(name for name in _ON_CARDS if FIGURES[name].is_binned)
_COVERAGE = re.compile(r"coverage_([1-9][0-9]?)")
ROWS = {"predictive": "posterior predictive", "mean": "mean weights alone"}
_FORMAT_VERSION = "1.1"
_MAX_ENTRIES = 100
_REQUIRED = ("dataset", "num_examples", "num_samples", "seed", "metrics", "num_bins", "by_num_samples", "reliability")

logger = logging.get_logger(__name__)

# A folder or file of somebody's machine: absolute, or of several parts.
_PATH = re.compile(r"(~|\.{0,2}[/\\]|[A-Za-z]:[/\\]).*|[^\s/]+(/[^\s/]+){2,}/?|\S+\\\S+")


@dataclass
class Evaluation:
    """
    The figures of one pass over one data set.

    Attributes:
        dataset: its name, best that on the Hub.
        split, dataset_config: as `load_dataset` names them, if known.
        num_examples: examples evaluated.
        num_samples: posterior draws averaged over.
        seed: of the draws.
        num_bins: of every calibration error.
        metrics: figures by name, of the `predictive` and of the `mean` weights.
        by_num_samples: the predictive's after fewer draws, each with its `num_samples`.
        reliability: bins of both, for a classifier.
        recalibrated: whether the predictive was that of a `Recalibration`.
        num_terms: tokens, pixels, labels or ends of spans that the figures are means over, if it is not examples.
    """

    dataset: str
    num_examples: int
    num_samples: int
    seed: int
    metrics: dict[str, dict[str, float]]
    split: str | None = None
    dataset_config: str | None = None
    num_bins: int = 15
    by_num_samples: list[dict[str, float]] = field(default_factory=list)
    reliability: dict[str, ReliabilityBins] = field(default_factory=dict)
    recalibrated: bool = False
    num_terms: int | None = None

    @property
    def data(self) -> tuple[str, str | None, str | None]:
        """Name, configuration and split of the data; of a path only the last part, the rest is nobody's business."""
        name = self.dataset
        if _PATH.fullmatch(name):
            name = re.split(r"[/\\]", name.rstrip("/\\"))[-1] or "unnamed data"
        return name, self.dataset_config, self.split

    @property
    def title(self) -> str:
        """Data set, configuration and split in a few words."""
        name, *parts = self.data
        given = ", ".join(part for part in parts if part)
        return f"{name} ({given})" if given else name

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, `None` for a figure that is not finite."""
        own = asdict(self)
        if self.num_terms is None:
            del own["num_terms"]
        return own | {
            "dataset": self.data[0],
            "metrics": {row: _finite(own) for row, own in self.metrics.items()},
            "by_num_samples": [_finite(own) for own in self.by_num_samples],
            "reliability": {row: bins.to_dict() for row, bins in self.reliability.items()},
        }

    def coverage(self, row: str) -> dict[float, float]:
        """Return the observed coverage of central intervals by their level, of the `predictive` or the `mean`."""
        found = ((_COVERAGE.fullmatch(name), value) for name, value in self.metrics.get(row, {}).items())
        return {int(match[1]) / 100: value for match, value in found if match and 0 <= value <= 1}

    def results(self, task: str | None) -> list[EvalResult]:
        """Return every figure as the Hub takes it, for a model's `task`; those that are not finite are left out."""
        draws: dict[str, Any] = {"num_samples": self.num_samples, "seed": self.seed}
        if self.recalibrated:
            draws["recalibrated"] = True
        return [
            EvalResult(
                task_type=task or "other",
                dataset_type=hub_dataset(self.dataset) or "unknown",
                dataset_name=self.title,
                dataset_config=self.dataset_config,
                dataset_split=self.split,
                metric_type=metric,
                metric_value=self.metrics[row][metric],
                metric_name=f"{title} ({row_title})",
                metric_args={"library": OWNER, "weights": row}
                | (draws if row == "predictive" else {})
                | ({"num_bins": self.num_bins} if metric in BINNED else {}),
            )
            for row, row_title in ROWS.items()
            for metric, title in METRICS.items()
            if math.isfinite(self.metrics.get(row, {}).get(metric, math.nan))
        ]

    def table(self) -> dict[str, Any]:
        """Return the figures as texts for a card's tables."""
        shown = [metric for metric in METRICS if metric in self.metrics["predictive"]]
        drawn = [metric for metric in shown if all(metric in own for own in self.by_num_samples)]
        rows = [(row, title, self.metrics[row]) for row, title in ROWS.items() if row in self.metrics]
        return {
            "title": plain(self.title),
            "num_examples": f"{self.num_examples:,}",
            "num_terms": None if self.num_terms is None else f"{self.num_terms:,}",
            "num_samples": self.num_samples,
            "num_bins": self.num_bins,
            "seed": self.seed,
            "is_binned": any(metric in BINNED for metric in shown),
            "has_perplexity": "perplexity" in shown,
            "has_coverage": bool(self.coverage("predictive")),
            "columns": [METRICS[metric] for metric in shown],
            "rows": [(row, title, [_shown(own.get(metric)) for metric in shown]) for row, title, own in rows],
            "draw_columns": [METRICS[metric] for metric in drawn],
            "draw_rows": [
                (own["num_samples"], [_shown(own[metric]) for metric in drawn]) for own in self.by_num_samples
            ],
        }

    @classmethod
    def from_dict(cls, values: Any) -> Evaluation:
        """
        Undo `to_dict`, of what anybody may have written. A figure of `None` becomes NaN; unknown fields are ignored.

        Raises:
            ValueError: a field is missing, or no such value.
        """
        values = json_object("an evaluation", values, _REQUIRED)
        metrics = {
            json_text("a name in metrics", row): _figures(f"metrics.{row}", own)
            for row, own in json_object("metrics", values["metrics"], ["predictive"]).items()
        }
        by_num_samples = [
            _figures("by_num_samples", own, ["num_samples"])
            | {"num_samples": json_whole("num_samples", own["num_samples"], 1)}
            for own in json_list("by_num_samples", values["by_num_samples"], most=_MAX_ENTRIES)
        ]
        reliability = {
            json_text("a name in reliability", row): ReliabilityBins.from_dict(own)
            for row, own in json_object("reliability", values["reliability"]).items()
        }
        optional = ("split", "dataset_config")
        return cls(
            dataset=json_text("dataset", values["dataset"]),
            num_examples=json_whole("num_examples", values["num_examples"], 1),
            num_samples=json_whole("num_samples", values["num_samples"], 1),
            seed=json_whole("seed", values["seed"]),
            metrics=metrics,
            num_bins=json_whole("num_bins", values["num_bins"], 1),
            by_num_samples=by_num_samples,
            reliability=reliability,
            recalibrated=json_flag("recalibrated", values.get("recalibrated", False)),
            num_terms=None if (terms := values.get("num_terms")) is None else json_whole("num_terms", terms, 1),
            **{name: json_text(name, values[name]) for name in optional if values.get(name) is not None},
        )


def hub_dataset(name: Any) -> str | None:
    """Return `name` if it looks like a data set's on the Hub, not like that of a class, a folder or a title."""
    return name if identifier(name) and "/" in name else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if math.isfinite(value) else "not finite"


def _figures(name: str, values: Any, required: Iterable[str] = ()) -> dict[str, float]:
    """Return figures by name, NaN where the file has `null`."""
    return {
        json_text(f"a name in {name}", key): math.nan if value is None else json_number(key, value)
        for key, value in json_object(name, values, required).items()
    }


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def write_evaluations(
    folder: str | os.PathLike[str], evaluations: Sequence[Evaluation], recalibration: Recalibration | None = None
) -> None:
    """
    Write `calibration.json` into a checkpoint's folder, tied to its weights; without anything to write, remove it.

    Raises:
        ValueError: an evaluation is not one that could be read again. The file stays as it was.
    """
    path = Path(folder) / CALIBRATION_NAME
    if not evaluations and recalibration is None:
        remove(path)
        return
    described = [evaluation.to_dict() for evaluation in evaluations]
    for values in json_list("evaluations", described, most=_MAX_ENTRIES):
        Evaluation.from_dict(values)
    contents = {"format_version": _FORMAT_VERSION, **_weights_of(Path(folder)), "evaluations": described}
    if recalibration is not None:
        contents["recalibration"] = recalibration.to_dict()
        Recalibration.from_dict(contents["recalibration"])
    text = json.dumps(contents, indent=2, allow_nan=False) + "\n"
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_evaluations(folder: str | os.PathLike[str]) -> list[Evaluation]:
    """
    Return the evaluations of the weights in `folder`; none, with a warning, if they are of other weights.

    Raises:
        PosteriorCheckpointError: the file is damaged, or of a newer format.
    """
    path = Path(folder) / CALIBRATION_NAME
    contents = _contents(path)
    if contents is None:
        return []
    try:
        found = json_list("evaluations", contents.get("evaluations"), most=_MAX_ENTRIES)
        return [Evaluation.from_dict(values) for values in found]
    except ValueError as error:
        raise _damaged(path, error, "Delete it, and measure again with `hf-scorevi evaluate`.") from error


def read_recalibration(folder: str | os.PathLike[str]) -> Recalibration | None:
    """
    Return the recalibration of the weights in `folder`, `None` if there is none; none, with a warning, if it is of
    other weights.

    Raises:
        PosteriorCheckpointError: the file is damaged, or of a newer format.
    """
    path = Path(folder) / CALIBRATION_NAME
    contents = _contents(path)
    if contents is None or contents.get("recalibration") is None:
        return None
    try:
        return Recalibration.from_dict(contents["recalibration"])
    except ValueError as error:
        raise _damaged(path, error, "Delete it, and recalibrate with `BayesianModel.calibrate`.") from error


def _contents(path: Path) -> dict[str, Any] | None:
    """Return what the file holds, if it is there and of the weights beside it."""
    if not is_there(path):
        return None
    contents = read_json(path)
    version = contents.get("format_version")
    if not isinstance(version, str) or version.split(".")[0] != _FORMAT_VERSION.split(".")[0]:
        raise PosteriorCheckpointError(
            f"{path} has format version {short(version)}; this hf_scorevi reads {_FORMAT_VERSION}. Upgrade "
            "hf_scorevi, or delete the file and measure again with `hf-scorevi evaluate`."
        )
    if any(contents.get(key) != value for key, value in _weights_of(path.parent).items()):
        logger.warning(
            f"{path} has the figures of other weights than those beside it, and is left out. Measure these with "
            "`hf-scorevi evaluate`."
        )
        return None
    return contents


def _damaged(path: Path, error: ValueError, remedy: str) -> PosteriorCheckpointError:
    return PosteriorCheckpointError(f"{path} is damaged ({error}). {remedy}")


def add_evaluation(evaluations: Sequence[Evaluation], new: Evaluation) -> list[Evaluation]:
    """Return the evaluations with `new` in the place of an earlier one on the same data, or at the end."""
    return list({evaluation.data: evaluation for evaluation in (*evaluations, new)}.values())


def _weights_of(folder: Path) -> dict[str, Any]:
    mean, posterior = stored_files(read_config(folder), folder)
    return {"mean_sha256": mean, "posterior_sha256": posterior}
