"""The model card: written from what lies in a checkpoint's folder, around what people have written themselves."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from keyword import iskeyword
from pathlib import Path
from statistics import median
from typing import Any

from huggingface_hub.repocard_data import eval_results_to_model_index
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]
from jinja2 import Environment, StrictUndefined, Template
from transformers.utils import logging

from ..errors import InputError, PosteriorCheckpointError
from ..heads import pipeline_tag, task_of
from ..posthoc import Recalibration
from .calibration import METRICS, ROWS, hub_dataset, read_evaluations, read_recalibration
from .card_forecasts import describe_forecaster, describe_noise
from .card_merging import MAX_CARD_BYTES, cell, identifier, listed, merge_cards, names_of, one_line, plain
from .card_usage import TERMS, Terms, find_usage
from .files import is_there, own_path, read_bytes, remove, write_aside
from .loading import read_config
from .untrusted import read_json

__all__ = ["CARD_NAME", "CardMetadata", "make_card", "read_card", "write_card"]

CARD_NAME = "README.md"
_POSTERIOR_PICTURE = "posterior.png"
_PICTURES = re.compile(r"posterior\.png|(reliability|coverage)(-\d+)?\.png")
_TAGS = ("hf_scorevi", "bayesian", "uncertainty", "calibration")
# What a tensor's precision is, and what is independent in all of them.
_FAMILIES = {
    "isotropic": ("one variance per tensor", "all weights"),
    "diagonal": ("one variance per weight", "all weights"),
    "block_diagonal": ("dense blocks along the smaller side of each tensor", "the blocks"),
    "low_rank": ("diagonal plus low rank within each tensor", "different tensors"),
    "full": ("dense within each tensor", "different tensors"),
}
# Arguments that say nothing without `update="gradient"`.
_GRADIENT = ("proximal", "score_norm", "inner_steps", "inner_learning_rate")
# Without the version of matplotlib the same picture is the same file.
_PNG_METADATA = {"Software": None}
_MAX_TITLE = 70  # of a picture
# What a card shows of a checkpoint, whose files may have any number of them.
_MOST_EVALUATIONS, _MOST_DRAWN = 20, 8
_MOST_ROWS = 100
_MOST_BINS = 200
_MOST_TENSORS = 2000
_KINDS = ("reliability", "coverage")  # of pictures of an evaluation

logger = logging.get_logger(__name__)


@dataclass
class CardMetadata:
    """
    Metadata of a card that the checkpoint itself does not tell. All are those of the Hub.

    Attributes:
        name: the model's, for its title and its figures.
        license, language, base_model: identifiers.
        datasets: identifiers of the data it was trained on.
        tags: beside ours.
        pipeline_tag: the task, if the architecture does not tell.
    """

    name: str | None = None
    license: str | None = None
    language: str | None = None
    base_model: str | None = None
    datasets: Sequence[str] = ()
    tags: Sequence[str] = ()
    pipeline_tag: str | None = None


def make_card(
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    metadata: CardMetadata | None = None,
    existing: str | None = None,
) -> str:
    """
    Draw the pictures of a checkpoint's card into its folder, and return the card.

    Pictures need matplotlib (`hf_scorevi[plots]`); without it the card has none.

    Args:
        repo_id: where the card will stand, for its examples.
        metadata: what the folder's files do not tell. It replaces what the existing card has, which our own earlier
            card may have guessed; lists are added to, less what we have guessed. A base model or data set that is no
            name on the Hub (a folder) is left out, with a warning.
        existing: the card to go on from. Of its text, the part between our two lines is replaced, or added if there is
            none; of its metadata, our figures are replaced, lists are added to, and what else is there stays.

    Raises:
        PosteriorCheckpointError: the folder's files are damaged, or there is no posterior.
        InputError: the metadata of the existing card are no YAML that can be read.
    """
    folder = Path(folder)
    metadata = metadata or CardMetadata()
    said = {name for name, value in vars(metadata).items() if value}
    if identifier(metadata.base_model) is None:
        said.discard("base_model")
    if not metadata.base_model:
        metadata = replace(metadata, base_model=next(iter(names_of(existing, "base_model")), None))
    if not metadata.pipeline_tag:
        metadata = replace(metadata, pipeline_tag=next(iter(names_of(existing, "pipeline_tag")), None))
    if not metadata.datasets:
        metadata = replace(metadata, datasets=names_of(existing, "datasets"))
    content = _Content(folder, repo_id, metadata)
    guessed = {"datasets": content.recorded_datasets}
    text = content.render(_draw(folder, content))
    return merge_cards(existing, text, {name: guessed.get(name, ()) for name in said})


def write_card(
    folder: str | os.PathLike[str], *, repo_id: str | None = None, metadata: CardMetadata | None = None
) -> Path:
    """Write `README.md` and its pictures into a checkpoint's folder, going on from the card there (`make_card`)."""
    path = Path(folder) / CARD_NAME
    existing = read_card(own_path(path, path.parent)) if is_there(path) else None
    text = make_card(folder, repo_id=repo_id, metadata=metadata, existing=existing)
    write_aside(path, lambda aside: aside.write_bytes(text.encode("utf-8")))
    return path


def read_card(path: Path) -> str:
    """
    Return the text of a card, with the line ends that it has.

    Raises:
        InputError: it is no UTF-8 text, or too long.
    """
    try:
        return read_bytes(path, MAX_CARD_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text ({error}). Save it as such, or move it away.") from error
    except PosteriorCheckpointError:
        raise
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}. Shorten it, or move it away.") from error


@cache
def _template() -> Template:
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((files(__package__) / "card_template.md").read_text(encoding="utf-8"))


class _Content:
    """What the card says, from the folder's files. What is in them may be anybody's, and of any type."""

    def __init__(self, folder: Path, repo_id: str | None, given: CardMetadata) -> None:
        contents = self.contents = read_config(folder)
        self.given = given
        found = read_evaluations(folder)
        self.evaluations, self.more_evaluations = found[-_MOST_EVALUATIONS:], max(len(found) - _MOST_EVALUATIONS, 0)
        self.recalibration = _describe_recalibration(read_recalibration(folder))
        self.training = _mapping(contents, "training")
        self.is_adapter = isinstance(contents.get("base_config"), dict)
        path = folder / "config.json"
        config = _mapping(contents, "base_config") or (read_json(path) if is_there(path) else {})
        self.architecture = _architecture(config)
        is_gaussian = _mapping(contents, "likelihood").get("kind") == "gaussian"
        self.task = task_of(self.architecture, config) or ("numbers" if is_gaussian else "classes")
        self.forecaster = describe_forecaster(folder, config) if self.task == "forecasts" else None
        tag = pipeline_tag(self.architecture)
        self.pipeline_tag = given.pipeline_tag or (None if self.task == "numbers" else tag)
        self.usage = find_usage(tag, self.task, folder)
        self.num_labels = len(_mapping(config, "id2label")) if self.usage.has_labels else 0
        recorded = identifier(self.training.get("base_model"))
        self.base_model = next(iter(_on_hub("base_model", given.base_model)), recorded)
        self.recorded_datasets = listed(hub_dataset(self.training.get("dataset")))
        self.datasets = _on_hub("datasets", given.datasets) or self.recorded_datasets
        self.name = given.name or (repo_id or folder.resolve().name).split("/")[-1]
        self.repo_id = re.sub(r"[^\w./-]", "-", repo_id or f"your-name/{self.name}", flags=re.ASCII)

    def metadata(self) -> dict[str, Any]:
        """Return the card's metadata."""
        figures = [own for evaluation in self.evaluations for own in evaluation.metrics.values()]
        # One evaluation at a time: of several on data of the same type (`unknown`) all would be said of the first's.
        results = [
            result
            for evaluation in self.evaluations
            for model in eval_results_to_model_index(self.name, evaluation.results(self.pipeline_tag))
            for result in model["results"]
        ]
        values = {
            "license": self.given.license,
            "language": self.given.language,
            "library_name": "peft" if self.is_adapter else "transformers",
            "pipeline_tag": self.pipeline_tag,
            "base_model": self.base_model,
            "datasets": self.datasets,
            "tags": list(dict.fromkeys([*_TAGS, *listed(self.given.tags)])),
            "metrics": [metric for metric in METRICS if any(metric in own for own in figures)],
            "model-index": [{"name": self.name, "results": results}] if results else None,
        }
        return {key: value for key, value in values.items() if value}

    def render(self, pictures: Container[str]) -> str:
        """Return the card, with those of its pictures that there are."""
        contents = self.contents
        return _template().render(
            vars(self)
            | {
                "metadata": yaml_dump(self.metadata(), sort_keys=False).rstrip(),
                "name": plain(self.name),
                "is_whole": contents.get("num_weights") == contents.get("num_parameters", contents.get("num_weights")),
                "objective": _mapping(contents, "method").get("objective"),
                "num_samples": self.evaluations[0].num_samples if self.evaluations else 16,
                "evaluations": [
                    own.table()
                    | {kind: name if (name := _picture_name(kind, i)) in pictures else None for kind in _KINDS}
                    for i, own in enumerate(self.evaluations)
                ],
                "posterior_rows": _rows(_describe_posterior(contents)),
                "posterior_picture": _POSTERIOR_PICTURE if _POSTERIOR_PICTURE in pictures else None,
                "training_rows": _rows(self._describe_training()),
                "is_measured_by_command": self.task in self.usage.measurable,
                "terms": TERMS.get(self.task, Terms("example", "examples")),
                "independent": _FAMILIES.get(_family(contents), ("", "different tensors"))[1],
                "is_gaussian": _mapping(contents, "likelihood").get("kind") == "gaussian",
                "tempering": _tempering(contents.get("temperature")),
                "versions": self._versions(),
            }
        )

    def _describe_training(self) -> dict[str, Any]:
        method = _mapping(self.contents, "method")
        unused = {"base_model", *(_GRADIENT if method.get("update") == "closed_form" else ())}
        unused |= {"antithetic"} if method.get("objective") == "score" else set()
        given = {"dataset": self.datasets} if self.datasets else {}
        return {key: value for key, value in (self.training | given | method).items() if key not in unused}

    def _versions(self) -> list[str]:
        # Under the template's heading PEFT looks for its own on every save, and else adds it behind our text.
        versions = _mapping(self.contents, "library_versions")
        names = {"hf_scorevi": "hf_scorevi", "torch": "PyTorch", "transformers": "Transformers"}
        names |= {"peft": "PEFT"} if self.is_adapter else {}
        return [f"{title} {cell(versions[key])}" for key, title in names.items() if key in versions]


def _describe_recalibration(found: Recalibration | None) -> dict[str, Any] | None:
    if found is None:
        return None
    parts = {
        f"temperature {found.temperature:.3g}": found.temperature != 1,
        f"posterior standard deviations times {found.posterior_scale:.3g}": found.posterior_scale != 1,
    }
    given = ", ".join(part for part in (found.dataset, found.dataset_config, found.split) if part)
    return {
        "how": " and ".join(part for part, is_fitted in parts.items() if is_fitted) or "temperature 1",
        "data": plain(given),
        "num_examples": f"{found.num_examples:,}",
        "nll_before": f"{found.nll_before:.4f}",
        "nll_after": f"{found.nll_after:.4f}",
    }


def _describe_posterior(contents: Mapping[str, Any]) -> dict[str, Any]:
    posterior, family = _mapping(contents, "posterior"), _family(contents)
    weights, parameters = contents.get("num_weights"), contents.get("num_parameters")
    if isinstance(weights, int) and isinstance(parameters, int) and parameters > 0:
        weights = f"{weights:,} of {parameters:,} ({weights / parameters:.1%})"
    ratios = [ratio for _, ratio, _ in _tensors(contents) if ratio is not None]
    mean, std = posterior.get("prior_mean"), posterior.get("prior_std")
    return {
        "family": f"{family}: {_FAMILIES[family][0]}" if family in _FAMILIES else family or None,
        "rank": posterior.get("rank") if family == "low_rank" else None,
        "Bayesian weights": weights,
        "mean of the prior": "the weights before training, zero for new ones" if mean == "initial" else mean,
        "standard deviation of the prior": "one per tensor, by empirical Bayes" if std == "auto" else std,
        **describe_noise(contents),
        "terms of the likelihood (N)": contents.get("num_data"),
        "temperature (T)": contents.get("temperature"),
        "σ relative to the weights, median over tensors": median(ratios) if ratios else None,
    }


def _tempering(temperature: Any) -> dict[str, str] | None:
    if not isinstance(temperature, int | float) or temperature <= 0 or temperature == 1:
        return None
    effect = "narrower" if temperature < 1 else "wider"
    return {"factor": cell(1 / temperature), "temperature": cell(temperature), "effect": effect}


def _draw(folder: Path, content: _Content) -> Container[str]:
    """Draw the card's pictures, if matplotlib is there, delete an earlier card's, and return their names."""
    from ..plots import coverage_diagram, posterior_diagram, reliability_diagram

    figures: dict[str, Any] = {}
    try:
        for i, evaluation in enumerate(content.evaluations[:_MOST_DRAWN]):
            title = evaluation.title[:_MAX_TITLE].replace("$", r"\$")  # no formula
            bins = {row: own for row, own in evaluation.reliability.items() if row in ROWS}
            if curves := {row: own for row, own in bins.items() if len(own.counts) <= _MOST_BINS}:
                figures[_picture_name("reliability", i)] = reliability_diagram(curves, title=title)
            covered = {row: evaluation.coverage(row) for row in ROWS}
            if points := {row: (list(own), list(own.values())) for row, own in covered.items() if own}:
                number = evaluation.num_examples
                intervals = {row: (*own, number) for row, own in points.items()}
                figures[_picture_name("coverage", i)] = coverage_diagram(intervals, title=title)
        tensors = _tensors(content.contents)
        if len(tensors) > _MOST_TENSORS:
            logger.warning(f"The card has no picture of the posterior: its {len(tensors):,} tensors would not fit.")
        elif any(ratio for _, ratio, _ in tensors):
            figures[_POSTERIOR_PICTURE] = posterior_diagram(tensors)
    except ImportError as error:
        logger.warning(f"The card has no pictures: {error}")
    for name, figure in figures.items():
        write_aside(folder / name, partial(figure.savefig, format="png", metadata=_PNG_METADATA))
    for path in folder.iterdir():
        if _PICTURES.fullmatch(path.name) and path.name not in figures:
            remove(path)
    return figures


def _picture_name(kind: str, number: int) -> str:
    """Return the name of the diagram of the first evaluation, of the second, …"""
    return f"{kind}{f'-{number + 1}' if number else ''}.png"


def _tensors(contents: Mapping[str, Any]) -> list[tuple[str, float | None, int]]:
    """
    Return (key, RMS σ over RMS weight, size) of each tensor, as far as `posterior_config.json` has figures for it; no
    ratio where the weights are zero.
    """
    found: list[tuple[str, float | None, int]] = []
    for key, own in _mapping(contents, "summary").items():
        match own:
            case [int() | float() as std, int() | float() as scale, int() as size] if min(own) >= 0 and size > 0:
                ratio = std / scale if scale else math.inf
                found.append((one_line(key), ratio if math.isfinite(ratio) else None, size))
    return found


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _family(contents: Mapping[str, Any]) -> str:
    family = _mapping(contents, "posterior").get("family")
    return family if isinstance(family, str) else ""


def _architecture(config: Mapping[str, Any]) -> str:
    """Return the name of the model's class; "" if there is none that could be imported."""
    name = next(iter(listed(config.get("architectures"))), None)
    is_class = isinstance(name, str) and re.fullmatch(r"[A-Z]\w{0,99}", name, re.ASCII) and not iskeyword(name)
    return str(name) if is_class else ""


def _on_hub(what: str, names: Any) -> list[str]:
    for name in listed(names):
        if identifier(name) is None:
            logger.warning(f"{what} {name!r} is no name on the Hub, and is left off the card.")
    return [name for name in listed(names) if identifier(name)]


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of a table of settings."""
    known = [(name, value) for name, value in values.items() if value is not None]
    rows = [(plain(name.replace("_", " ")), cell(value)) for name, value in known[:_MOST_ROWS]]
    return rows + ([("…", f"{len(known) - _MOST_ROWS:,} more")] if len(known) > _MOST_ROWS else [])
