"""`calibration.json`: what was measured of a checkpoint, on which data, and by which conventions."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..errors import PosteriorCheckpointError
from ..metrics import ReliabilityBins
from .checkpoint import write_aside
from .loading import read_config, stored_files
from .untrusted import read_json

__all__ = ["CALIBRATION_NAME", "Evaluation", "add_evaluation", "read_evaluations", "write_evaluations"]

CALIBRATION_NAME = "calibration.json"
_FORMAT_VERSION = "1.0"
_MAX_TEXT = 200

logger = logging.get_logger(__name__)


@dataclass
class Evaluation:
    """
    What one pass over one data set has shown.

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

    @property
    def title(self) -> str:
        """Data set, configuration and split in a few words."""
        parts = [part for part in (self.dataset_config, self.split) if part]
        return self.dataset + (f" ({', '.join(parts)})" if parts else "")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        bins = {name: own.to_dict() for name, own in self.reliability.items()}
        return {**{k: v for k, v in asdict(self).items() if k != "reliability"}, "reliability": bins}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """
        The inverse of `to_dict`, from anybody.

        Raises:
            ValueError: a field is missing, unknown, or no such value.
        """
        try:
            return cls(
                dataset=_text(values["dataset"]),
                num_examples=_whole(values["num_examples"]),
                num_samples=_whole(values["num_samples"]),
                seed=_whole(values["seed"]),
                metrics={_text(name): _figures(own) for name, own in values["metrics"].items()},
                split=None if values.get("split") is None else _text(values["split"]),
                dataset_config=None if values.get("dataset_config") is None else _text(values["dataset_config"]),
                num_bins=_whole(values["num_bins"]),
                by_num_samples=[_figures(own) for own in values["by_num_samples"]],
                reliability={
                    _text(name): ReliabilityBins.from_dict(own) for name, own in values["reliability"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_TEXT:
        raise ValueError(f"{str(value)[:40]!r} is no line of text")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{str(value)[:40]} is no number of things")
    return value


def _figures(values: dict[str, Any]) -> dict[str, float]:
    for value in values.values():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{str(value)[:40]} is no figure")
    return {_text(name): value for name, value in values.items()}


def write_evaluations(folder: str | os.PathLike[str], evaluations: Sequence[Evaluation]) -> None:
    """Write `calibration.json` into a checkpoint's folder, tied to its weights; without evaluations, remove it."""
    path = Path(folder) / CALIBRATION_NAME
    if not evaluations:
        path.unlink(missing_ok=True)
        return
    contents = {
        "format_version": _FORMAT_VERSION,
        **_weights_of(Path(folder)),
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
    }
    text = json.dumps(contents, indent=2, allow_nan=False) + "\n"
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_evaluations(folder: str | os.PathLike[str]) -> list[Evaluation]:
    """
    The evaluations of the weights in `folder`; none, with a warning, if they are of other weights.

    Raises:
        PosteriorCheckpointError: the file is damaged.
    """
    path = Path(folder) / CALIBRATION_NAME
    if not path.is_file():
        return []
    contents = read_json(path)
    if any(contents.get(key) != value for key, value in _weights_of(Path(folder)).items()):
        logger.warning(
            f"{path} has the figures of other weights than those beside it, and is left out. Measure these with "
            "`hf-scorevi evaluate`."
        )
        return []
    try:
        return [Evaluation.from_dict(values) for values in contents["evaluations"]]
    except (KeyError, TypeError, ValueError) as error:
        raise PosteriorCheckpointError(
            f"{path} is damaged ({error}). Delete it, and measure again with `hf-scorevi evaluate`."
        ) from error


def add_evaluation(evaluations: Sequence[Evaluation], new: Evaluation) -> list[Evaluation]:
    """`new` in the place of an earlier one on the same data, or at the end."""
    data = (new.dataset, new.dataset_config, new.split)
    others = [(old.dataset, old.dataset_config, old.split) for old in evaluations]
    if data not in others:
        return [*evaluations, new]
    return [new if other == data else old for old, other in zip(evaluations, others, strict=True)]


def _weights_of(folder: Path) -> dict[str, Any]:
    mean, posterior = stored_files(read_config(folder), folder)
    return {"mean_sha256": mean, "posterior_sha256": posterior}
