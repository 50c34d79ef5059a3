"""The model card: written from what lies in a checkpoint's folder, around what people have written themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]
from jinja2 import Environment, StrictUndefined

from .calibration import Evaluation, read_evaluations
from .card_merging import OWNER, identifier, merge_cards
from .checkpoint import write_aside
from .loading import read_config
from .untrusted import read_json

__all__ = ["CARD_NAME", "CardMetadata", "make_card", "write_card"]

CARD_NAME = "README.md"
POSTERIOR_PICTURE = "posterior.png"
_TAGS = ("hf_scorevi", "bayesian", "uncertainty", "calibration")
_TASKS = {"ForImageClassification": "image-classification", "ForSequenceClassification": "text-classification"}
# In the order of the card's columns.
_METRICS = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "classwise_ece": "class-wise ECE",
    "adaptive_ece": "adaptive ECE",
    "brier": "Brier",
    "mse": "MSE",
}
_BINNED = ("ece", "classwise_ece", "adaptive_ece")
# Arguments that say nothing unless their update or objective is chosen.
_GRADIENT: tuple[str, ...] = ("proximal", "score_norm", "inner_steps", "inner_learning_rate")
_ELBO: tuple[str, ...] = ("antithetic",)
_ROWS = ("predictive", "mean")


@dataclass
class CardMetadata:
    """
    What the card's metadata say beside what the checkpoint itself tells. All are those of the Hub.

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
        metadata: what the folder's files do not tell.
        existing: the card to go on from. Of its text, the part between our two lines is replaced, or added if there is
            none; of its metadata, our figures are replaced, lists are added to, and what is there already stays.

    Raises:
        PosteriorCheckpointError: the folder's files are damaged, or there is no posterior.
        ValueError: the metadata of the existing card are no YAML.
    """
    folder = Path(folder)
    content = _Content(folder, repo_id, metadata or CardMetadata())
    _draw(folder, content)
    return merge_cards(existing, content.render(folder))


def write_card(
    folder: str | os.PathLike[str], *, repo_id: str | None = None, metadata: CardMetadata | None = None
) -> Path:
    """Write `README.md` and its pictures into a checkpoint's folder, going on from the card there (`make_card`)."""
    path = Path(folder) / CARD_NAME
    existing = path.read_text(encoding="utf-8") if path.is_file() else None
    text = make_card(folder, repo_id=repo_id, metadata=metadata, existing=existing)
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    return path


class _Content:
    """What the card says, from the folder's files."""

    def __init__(self, folder: Path, repo_id: str | None, metadata: CardMetadata) -> None:
        self.contents = read_config(folder)
        self.evaluations = read_evaluations(folder)
        training = self.contents.get("training")
        self.training: dict[str, Any] = training if isinstance(training, dict) else {}
        base = self.contents.get("base_config")
        self.is_adapter = isinstance(base, dict)
        config = base if isinstance(base, dict) else _config_of(folder)
        architectures = config.get("architectures")
        named = isinstance(architectures, list) and architectures and str(architectures[0]).isidentifier()
        self.architecture = architectures[0] if named else "model"  # type: ignore[index]
        self.pipeline_tag = metadata.pipeline_tag or next(
            (task for suffix, task in _TASKS.items() if self.architecture.endswith(suffix)), None
        )
        self.base_model = metadata.base_model or identifier(self.training.get("base_model"))
        known = _hub_dataset(self.training.get("dataset"))
        self.datasets = list(metadata.datasets) or ([known] if known else [])
        self.metadata = metadata
        self.name = metadata.name or (repo_id or folder.resolve().name).split("/")[-1]
        self.repo_id = repo_id or f"your-name/{self.name}"

    def yaml(self) -> dict[str, Any]:
        """The card's metadata."""
        given = self.metadata
        figures = [figures for evaluation in self.evaluations for figures in evaluation.metrics.values()]
        values: dict[str, Any] = {
            "license": given.license,
            "language": given.language,
            "library_name": "peft" if self.is_adapter else "transformers",
            "pipeline_tag": self.pipeline_tag,
            "base_model": self.base_model,
            "datasets": self.datasets,
            "tags": [*_TAGS, *(tag for tag in given.tags if tag not in _TAGS)],
            "metrics": [metric for metric in _METRICS if any(metric in own for own in figures)],
        }
        if self.evaluations:
            values["model-index"] = eval_results_to_model_index(self.name, self._results())
        return {key: value for key, value in values.items() if value}

    def _results(self) -> list[EvalResult]:
        return [
            EvalResult(
                task_type=self.pipeline_tag or "other",
                dataset_type=_hub_dataset(evaluation.dataset) or "unknown",
                dataset_name=evaluation.title,
                dataset_config=evaluation.dataset_config,
                dataset_split=evaluation.split,
                metric_type=metric,
                metric_value=value,
                metric_name=f"{_METRICS[metric]} ({_row_title(row, evaluation)})",
                metric_args={"library": OWNER, "weights": row}
                | ({"num_samples": evaluation.num_samples, "seed": evaluation.seed} if row == "predictive" else {})
                | ({"num_bins": evaluation.num_bins} if metric in _BINNED else {}),
            )
            for evaluation in self.evaluations
            for row in _ROWS
            for metric, value in evaluation.metrics.get(row, {}).items()
            if metric in _METRICS
        ]

    def render(self, folder: Path) -> str:
        """The card."""
        environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
        template = (files(__package__) / "card_template.md").read_text(encoding="utf-8")
        config = self.contents.get("posterior")
        family = config.get("family") if isinstance(config, dict) else None
        temperature = self.contents.get("temperature")
        return environment.from_string(template).render(
            metadata=yaml_dump(self.yaml()).rstrip(),
            name=self.name,
            repo_id=self.repo_id,
            architecture=self.architecture,
            base_model=self.base_model,
            is_adapter=self.is_adapter,
            pipeline_tag=self.pipeline_tag,
            has_processor=self.pipeline_tag == "image-classification"
            and any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")),
            num_samples=self.evaluations[0].num_samples if self.evaluations else 16,
            evaluations=[
                _table(evaluation, folder / picture_name(i)) for i, evaluation in enumerate(self.evaluations)
            ],
            posterior_rows=self._posterior_rows(),
            posterior_picture=POSTERIOR_PICTURE if (folder / POSTERIOR_PICTURE).is_file() else None,
            training_rows=self._training_rows(),
            independent={"isotropic": "weights", "diagonal": "weights"}.get(str(family), "the weights of tensors"),
            temperature=temperature if isinstance(temperature, int | float) and temperature > 0 else 1,
            versions=self._versions(),
        )

    def _posterior_rows(self) -> list[tuple[str, str]]:
        contents = self.contents
        config = contents.get("posterior")
        config = config if isinstance(config, dict) else {}
        weights, parameters = contents.get("num_weights"), contents.get("num_parameters")
        rows: list[tuple[str, Any]] = [("family", config.get("family"))]
        if isinstance(weights, int) and isinstance(parameters, int) and parameters > 0:
            rows.append(("Bayesian weights", f"{weights:,} of {parameters:,} ({weights / parameters:.1%})"))
        rows += [
            ("prior mean", config.get("prior_mean")),
            ("prior standard deviation", config.get("prior_std")),
            ("data N", contents.get("num_data")),
            ("temperature T", contents.get("temperature")),
        ]
        if summary := tensor_summary(contents):
            sizes = sum(size for *_, size in summary)
            mean = sum(std / scale * size for _, std, scale, size in summary if scale > 0) / max(sizes, 1)
            rows.append(("σ over the tensor's root-mean-square weight, average", mean))
        return [(name, _cell(value)) for name, value in rows if value is not None]

    def _training_rows(self) -> list[tuple[str, str]]:
        method = self.contents.get("method")
        method = method if isinstance(method, dict) else {}
        unused = _GRADIENT if method.get("update") == "closed_form" else ()
        unused += _ELBO if method.get("objective") == "score" else ()
        rows = {key: value for key, value in (self.training | method).items() if key not in unused}
        return [(_cell(name).replace("_", " "), _cell(value)) for name, value in rows.items() if value is not None]

    def _versions(self) -> str:
        # PEFT adds this heading with its own version behind our text on every save, unless it finds both.
        versions = self.contents.get("library_versions")
        versions = dict(versions) if isinstance(versions, dict) else {}
        names = {"hf_scorevi": "hf_scorevi", "peft": "PEFT", "torch": "PyTorch", "transformers": "Transformers"}
        lines = [f"- {title} {_cell(versions[key])}" for key, title in names.items() if key in versions]
        return "\n### Framework versions\n\n" + "\n".join(lines) + "\n" if lines else ""


def _table(evaluation: Evaluation, picture: Path) -> dict[str, Any]:
    """One evaluation as the template takes it."""
    shown = [metric for metric in _METRICS if metric in evaluation.metrics.get("predictive", {})]
    drawn = [m for m in shown if all(m in own for own in evaluation.by_num_samples)]
    return {
        "title": _cell(evaluation.title),
        "split": evaluation.split,
        "num_examples": evaluation.num_examples,
        "num_bins": evaluation.num_bins,
        "seed": evaluation.seed,
        "is_classification": "ece" in shown,
        "columns": [_METRICS[metric] for metric in shown],
        "rows": [
            (f"**{title}**" if row == "predictive" else title, [_figure(own.get(metric)) for metric in shown])
            for row, own in evaluation.metrics.items()
            if (title := _row_title(row, evaluation))
        ],
        "picture": picture.name if picture.is_file() and evaluation.reliability else None,
        "by_num_samples": evaluation.by_num_samples,
        "draw_columns": [_METRICS[metric] for metric in drawn],
        "draw_rows": [
            (_figure(own.get("num_samples")), [_figure(own[metric]) for metric in drawn])
            for own in evaluation.by_num_samples
        ],
    }


def _row_title(row: str, evaluation: Evaluation) -> str:
    titles = {"predictive": f"posterior predictive, {evaluation.num_samples} draws", "mean": "mean weights alone"}
    return titles.get(row, row)


def picture_name(number: int) -> str:
    """The reliability diagram of the first evaluation, of the second, …"""
    return f"reliability{f'-{number + 1}' if number else ''}.png"


def tensor_summary(contents: Mapping[str, Any]) -> list[tuple[str, float, float, int]]:
    """(key, RMS σ, RMS weight, size) of each tensor, as far as `posterior_config.json` has figures for it."""
    summary = contents.get("summary")
    rows = []
    for key, own in summary.items() if isinstance(summary, dict) else ():
        numbers = isinstance(own, list) and len(own) == 3 and all(isinstance(x, int | float) and x >= 0 for x in own)
        if numbers:
            rows.append((_cell(key), float(own[0]), float(own[1]), int(own[2])))
    return rows


def _draw(folder: Path, content: _Content) -> None:
    """The card's pictures, if matplotlib is there."""
    from ..plots import posterior_diagram, reliability_diagram

    def save(figure: Any, name: str) -> None:
        # Without the version of matplotlib, so that the same picture is the same file.
        write_aside(folder / name, lambda path: figure.savefig(path, format="png", metadata={"Software": None}))

    try:
        for i, evaluation in enumerate(content.evaluations):
            if evaluation.reliability:
                save(reliability_diagram(evaluation.reliability, title=evaluation.title), picture_name(i))
        summary = tensor_summary(content.contents)
        rows = [(key, std / scale if scale > 0 else None, size) for key, std, scale, size in summary]
        if any(relative for _, relative, _ in rows):
            save(posterior_diagram(rows), POSTERIOR_PICTURE)
    except ImportError:  # better none than those of other weights
        for path in (folder / POSTERIOR_PICTURE, *folder.glob("reliability*.png")):
            path.unlink(missing_ok=True)


def _config_of(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return read_json(path) if path.is_file() else {}


def _hub_dataset(name: Any) -> str | None:
    """`name` if it looks like a data set's on the Hub, not like that of a class or a title."""
    return name if identifier(name) and ("/" in name or name.islower()) else None


def _figure(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _cell(value: Any) -> str:
    """A value as text that cannot break out of a table's cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = " ".join(str(value).split())[:200]
    return text.replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
