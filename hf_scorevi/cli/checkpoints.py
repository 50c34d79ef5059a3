"""Options that name a checkpoint and labelled images, and what they name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_token, positive, seed

if TYPE_CHECKING:  # imported by the commands themselves: `--help` need not wait for torch and transformers
    from datasets import Dataset
    from transformers import BaseImageProcessor

    from ..modeling import BayesianModel

__all__ = ["add_checkpoint", "add_data", "add_draws", "enough_memory", "load", "place"]

_OTHER_PROCESSOR = (
    "Give --image-processor a repository or folder that has the right one, such as the model it was fine-tuned from."
)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="REPO", help="user/repository on the Hub, or a checkpoint's folder")
    parser.add_argument("--revision", help="branch, tag or commit of REPO (default: main)")
    parser.add_argument("--subfolder", default="", help="where in REPO the checkpoint lies (default: at its top)")
    parser.add_argument(
        "--image-processor", metavar="REPO", help="repository or folder of another one (default: the checkpoint's)"
    )
    add_token(parser)


def add_data(parser: argparse.ArgumentParser, split: str) -> None:
    data = parser.add_argument_group("data; labels are matched with the model's classes by name")
    data.add_argument(
        "--dataset",
        metavar="DATA",
        required=True,
        help="data set on the Hub; folder with a subfolder of images a class; or file of rows: parquet, arrow, csv, "
        "json, jsonl",
    )
    data.add_argument("--config", help="configuration of a data set on the Hub (default: its only one)")
    data.add_argument("--split", default=split, help="split of a data set on the Hub")
    data.add_argument("--image-column", metavar="NAME", default="image", help="column of the images")
    data.add_argument("--label-column", metavar="NAME", default="label", help="column of the labels")
    data.add_argument(
        "--max-examples", metavar="N", type=positive, help="use so many, drawn by --seed (default: all of them)"
    )


def add_draws(group: Any) -> None:
    group.add_argument("--num-samples", metavar="S", type=positive, default=16, help="posterior draws to average over")
    group.add_argument("--seed", metavar="N", type=seed, default=0, help="of the draws")
    group.add_argument("--batch-size", metavar="N", type=positive, default=32, help="images at a time")
    group.add_argument("--use-cpu", action="store_true", help="leave a GPU alone (default: use it if there is one)")


def place(options: argparse.Namespace) -> dict[str, Any]:
    """Where in the world the checkpoint lies, as the functions of `hub` take it."""
    return {"revision": options.revision, "subfolder": options.subfolder, "token": options.token}


def load(options: argparse.Namespace, folder: Path) -> tuple[BayesianModel, Dataset, dict[str, str | None]]:
    """The image classifier in `folder`, the data as it takes them, and what these are called."""
    from ..evaluation import load_images
    from ..modeling import BayesianModel

    model = BayesianModel.from_pretrained(folder, token=options.token)
    architecture = (model.config.architectures or [""])[0]
    if "ForImageClassification" not in architecture:
        raise ValueError(
            f"{options.name} is a {architecture or type(model.model).__name__}, and this command is for image "
            "classifiers. Measure others in Python, with hf_scorevi.evaluation.evaluate(model, dataset)."
        )
    if model.kind != "classes":
        raise ValueError(
            f"{options.name} predicts {model.kind} (its problem_type is {model.config.problem_type}); this command is "
            "for image classifiers of one class an example. Measure others in Python, with "
            "hf_scorevi.evaluation.evaluate(model, dataset)."
        )
    data, described = load_images(
        options.dataset,
        model.config,
        _image_processor(options, folder),
        config=options.config,
        split=options.split,
        image_column=options.image_column,
        label_column=options.label_column,
        max_examples=options.max_examples,
        seed=options.seed,
        token=options.token,
    )
    _check_fit(model, data)
    return model, data, described


@contextmanager
def enough_memory() -> Iterator[None]:
    """Says what to do where the memory of a GPU does not suffice, or the model fails at these data."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{error} Give a smaller --batch-size, or --use-cpu.") from error
    except RuntimeError as error:
        raise ValueError(f"The model cannot be run on these data: {error}") from error


def _image_processor(options: argparse.Namespace, folder: Path) -> BaseImageProcessor:
    from ..errors import PosteriorCheckpointError
    from ..hub.processors import load_image_processor

    source, where = options.image_processor or folder, {}
    if not options.image_processor and not Path(options.name).is_dir():  # `folder` has only what a model needs
        source, where = options.name, {"revision": options.revision, "subfolder": options.subfolder}
    try:
        return load_image_processor(source, token=options.token, **where)
    except PosteriorCheckpointError as error:
        raise ValueError(
            f"{source} has no image processor that can be loaded ({error}). {_OTHER_PROCESSOR}"
        ) from error


def _check_fit(model: BayesianModel, data: Dataset) -> None:
    """Whether the model takes what the image processor makes of the first image."""
    import torch

    from ..image_data import InputError

    try:
        with torch.no_grad():
            model.model(pixel_values=data[:1]["pixel_values"].to(model.device))
    except InputError:  # of that image
        raise
    except Exception as error:  # a processor of another model may do anything
        raise ValueError(f"The image processor does not fit the model ({error}). {_OTHER_PROCESSOR}") from error
