"""Command-line options that name a checkpoint and its data, and loading of both."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_token, positive, seed

if TYPE_CHECKING:  # imported by the commands themselves: `--help` need not wait for torch and transformers
    from ..modeling import BayesianModel

__all__ = [
    "SERIES",
    "TEXTS",
    "Kind",
    "Loaded",
    "add_checkpoint",
    "add_data",
    "add_draws",
    "add_text_columns",
    "check_fit",
    "enough_memory",
    "load",
    "load_model",
    "place",
]

_IN_PYTHON = "Measure others in Python, with hf_scorevi.evaluation.evaluate(model, dataset)."


@dataclass(frozen=True)
class Kind:
    """
    A kind of model input.

    Attributes:
        inputs: its name in the plural.
        part: `pipeline`'s name for the processor that makes the model's inputs.
        tasks: of the models that the commands support.
    """

    inputs: str
    part: str
    tasks: tuple[str, ...] = ("classes",)

    @property
    def other_part(self) -> str:
        """The remedy for a processor that is missing or wrong."""
        flag = self.part.replace("_", "-")
        return (
            f"Give --{flag} a repository or folder that has the right one, such as the model it was fine-tuned from."
        )


IMAGES = Kind("images", "image_processor")
TEXTS = Kind("texts", "tokenizer", ("classes", "numbers"))
RECORDINGS = Kind("recordings", "feature_extractor")
SERIES = Kind("series", "feature_extractor", ("forecasts",))


@dataclass(frozen=True)
class Loaded:
    """
    A model, and data in the form that it takes.

    Attributes:
        data: rows; `None` if none were named.
        described: the data's names for an `Evaluation`.
        part: the processor that makes the model's inputs.
    """

    model: BayesianModel
    kind: Kind
    part: Any
    data: Any = None
    described: dict[str, str | None] | None = None


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="REPO", help="user/repository on the Hub, or a checkpoint's folder")
    parser.add_argument("--revision", help="branch, tag or commit of REPO (default: main)")
    parser.add_argument("--subfolder", default="", help="where in REPO the checkpoint lies (default: at its top)")
    parser.add_argument(
        "--image-processor",
        "--tokenizer",
        "--feature-extractor",
        dest="part",
        metavar="REPO",
        help="repository or folder of another one (default: the checkpoint's, or its base model's)",
    )
    add_token(parser)


def add_data(parser: argparse.ArgumentParser, split: str) -> Any:
    data = parser.add_argument_group("data; labels are matched with the model's classes by name")
    data.add_argument(
        "--dataset",
        metavar="DATA",
        required=True,
        help="data set on the Hub; folder with a subfolder of images or audio files a class; or file of rows: "
        "parquet, arrow, csv, json, jsonl",
    )
    data.add_argument("--config", help="configuration of a data set on the Hub (default: its only one)")
    data.add_argument("--split", default=split, help="split of a data set on the Hub")
    data.add_argument("--image-column", metavar="NAME", default="image", help="column of the images")
    data.add_argument("--audio-column", metavar="NAME", default="audio", help="column of the recordings")
    add_text_columns(data)
    data.add_argument("--label-column", metavar="NAME", help="column of the labels (default: label or labels)")
    data.add_argument(
        "--max-examples", metavar="N", type=positive, help="use so many, drawn by --seed (default: all of them)"
    )
    return data


def add_text_columns(group: Any) -> None:
    group.add_argument("--text-column", metavar="NAME", help="column of the texts (default: text or sentence)")
    group.add_argument(
        "--text-pair-column", metavar="NAME", help="column of the second texts, of pairs (default: there is none)"
    )


def add_draws(group: Any) -> None:
    group.add_argument("--num-samples", metavar="S", type=positive, default=16, help="posterior draws to average over")
    group.add_argument("--seed", metavar="N", type=seed, default=0, help="of the draws")
    group.add_argument("--batch-size", metavar="N", type=positive, default=32, help="inputs at a time")
    group.add_argument("--use-cpu", action="store_true", help="leave a GPU alone (default: use it if there is one)")


def place(options: argparse.Namespace) -> dict[str, Any]:
    """Return where the checkpoint lies, as arguments for the functions of `hub`."""
    return {"revision": options.revision, "subfolder": options.subfolder, "token": options.token}


def load_model(options: argparse.Namespace, folder: Path) -> Loaded:
    """Load the model in `folder`, and the processor that makes its inputs."""
    from ..modeling import BayesianModel

    model = BayesianModel.from_pretrained(folder, token=options.token)
    kind = _kind_of(model, options.name)
    return Loaded(model, kind, _part(kind, options, folder))


def load(options: argparse.Namespace, folder: Path, tasks: tuple[str, ...] | None = None) -> Loaded:
    """
    Load the model in `folder`, and data in the form that it takes.

    Args:
        tasks: supported by the command; default: those of the kind of input.
    """
    loaded = load_model(options, folder)
    model = loaded.model
    if model.task not in (tasks or loaded.kind.tasks):
        raise ValueError(
            f"{options.name} predicts {model.task} (its problem_type is "
            f"{getattr(model.config, 'problem_type', None)}); this command is for classifiers of one class an "
            f"example{' and forecasters' if tasks is None else ''}. {_IN_PYTHON}"
        )
    data, described = _data(loaded, options)
    loaded = replace(loaded, data=data, described=described)
    check_fit(loaded)
    return loaded


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raise an error with a remedy if the memory of a GPU does not suffice, or the model fails on these data."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{error} Give a smaller --batch-size, or --use-cpu.") from error
    except RuntimeError as error:
        raise ValueError(f"The model cannot be run on these data: {error}") from error


def _kind_of(model: BayesianModel, name: str) -> Kind:
    from ..heads import base_of, pipeline_tag

    architecture = type(base_of(model.model)).__name__
    if model.task == "forecasts":
        return SERIES
    kinds = {"image-classification": IMAGES, "text-classification": TEXTS, "audio-classification": RECORDINGS}
    if (kind := kinds.get(pipeline_tag(architecture) or "")) is not None:
        return kind
    raise ValueError(
        f"{name} is a {architecture}, and this command is for classifiers of images, texts and recordings, and for "
        f"forecasters. {_IN_PYTHON}"
    )


def _part(kind: Kind, options: argparse.Namespace, folder: Path) -> Any:
    from ..errors import PosteriorCheckpointError
    from ..pipelines.loading import load_part, load_processor, own_part

    source, where = options.part or str(folder), {}
    if not options.part and not Path(options.name).is_dir():  # `folder` may lack the processor's files
        source, where = options.name, {"revision": options.revision, "subfolder": options.subfolder}
    if kind is SERIES:
        processor = load_processor(source, token=options.token, **where)
        if processor is None:
            raise ValueError(f"{source} has no SeriesProcessor, which knows the units of series. {kind.other_part}")
        return processor
    try:
        return (load_part if options.part else own_part)(kind.part, source, token=options.token, **where)
    except PosteriorCheckpointError as error:
        what = kind.part.replace("_", " ")
        raise ValueError(f"{source} has no {what} that can be loaded ({error}). {kind.other_part}") from error


def _data(loaded: Loaded, options: argparse.Namespace) -> tuple[Any, dict[str, str | None]]:
    from ..labelled_data import load_audio, load_images, load_texts

    columns = {"label_column": options.label_column}
    how = {name: getattr(options, name) for name in ("config", "split", "max_examples", "seed", "token")}
    source, config = options.dataset, loaded.model.config
    if loaded.kind is SERIES:
        from .series import windows

        return windows(loaded.model, loaded.part, options)
    if loaded.kind is IMAGES:
        return load_images(source, config, loaded.part, image_column=options.image_column, **columns, **how)
    if loaded.kind is RECORDINGS:
        return load_audio(source, config, loaded.part, audio_column=options.audio_column, **columns, **how)
    columns |= {"text_column": options.text_column, "text_pair_column": options.text_pair_column}
    return load_texts(source, config, loaded.part, numbers=loaded.model.task == "numbers", **columns, **how)


def check_fit(loaded: Loaded) -> None:
    """
    Run the model on the first row.

    Raises:
        ValueError: the model does not take the inputs made from it.
    """
    from ..errors import InputError
    from ..padding import Collator

    model = loaded.model
    try:
        inputs = model.inputs_of(Collator(loaded.part)([loaded.data[0]]))
        model.predict(use_mean=True, return_samples=False, **inputs)
    except InputError:  # in that row
        raise
    except Exception as error:  # the processor may be of another model, and fail in any way
        what = loaded.kind.part.replace("_", " ")
        raise ValueError(f"The {what} does not fit the model ({error}). {loaded.kind.other_part}") from error
