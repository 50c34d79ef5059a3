"""`hf-scorevi`: push a checkpoint, write its card, measure it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

from .errors import PosteriorCheckpointError, PushError
from .image_data import InputError

__all__ = ["main"]

_EXAMPLES = """\
examples:
  hf-scorevi push outputs/pets me/vit-pets-bayesian --private
  hf-scorevi card outputs/pets --license apache-2.0
  hf-scorevi evaluate me/vit-pets-bayesian --dataset timm/oxford-iiit-pet --split test
  hf-scorevi evaluate outputs/pets --dataset photos --num-samples 64 --json figures.json --update-card
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The program; `argv` defaults to the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hf-scorevi",
        description="Bayesian checkpoints: push them, write their cards, measure them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_push, _add_card, _add_evaluate):
        add(commands)
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (PosteriorCheckpointError, PushError, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, HfHubHTTPError, httpx.HTTPError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _command(commands: Any, name: str, run: Any, summary: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


def _add_push(commands: Any) -> None:
    parser = _command(
        commands,
        "push",
        _push,
        "push a checkpoint's folder to the Hub",
        "Push mean, posterior, figures, card and what else lies in DIR in one commit. What has not changed is not "
        "sent; what people have written on the card stays.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="checkpoint that a trainer or save_pretrained wrote")
    parser.add_argument("repo_id", metavar="REPO", help="user/repository; made if it is not there")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", help="branch, made if it is not there")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--message", default="Upload a Bayesian checkpoint with hf-scorevi", help="of the commit")
    parser.add_argument("--token", help="default: that of `hf auth login`")
    _add_metadata(parser)


def _add_card(commands: Any) -> None:
    parser = _command(
        commands,
        "card",
        _card,
        "write a checkpoint's model card anew",
        "Write README.md and its pictures from the files in DIR. Of a card that is there, only what hf_scorevi wrote "
        "is replaced.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="checkpoint that a trainer or save_pretrained wrote")
    parser.add_argument("--repo-id", help="user/repository that the card's examples name")
    _add_metadata(parser)


def _add_metadata(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the card's metadata, where it has none yet")
    group.add_argument("--name", help="the model's; default: the repository's or the folder's")
    group.add_argument("--license", help="identifier of the Hub, e.g. apache-2.0")
    group.add_argument("--language", help="code of the language, if there is one")
    group.add_argument("--base-model", help="model of the Hub that it was fine-tuned from")
    group.add_argument("--datasets", nargs="+", metavar="ID", default=(), help="data of the Hub it was trained on")
    group.add_argument("--tags", nargs="+", metavar="TAG", default=(), help="beside ours")


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        _evaluate,
        "measure a checkpoint's calibration",
        "Measure an image classifier: accuracy, NLL, calibration errors and Brier score of its posterior predictive "
        "and of its mean weights.",
    )
    parser.add_argument("name", metavar="REPO", help="user/repository, or a checkpoint's folder")
    parser.add_argument("--dataset", required=True, help="data set of the Hub, a folder of images, or a file of rows")
    parser.add_argument("--config", help="its configuration")
    parser.add_argument("--split", default="test", help="its split, for a data set of the Hub")
    parser.add_argument("--image-column", default="image", help="column of the images")
    parser.add_argument("--label-column", default="label", help="column of the labels")
    parser.add_argument("--image-processor", help="default: the checkpoint's")
    parser.add_argument("--num-samples", type=_positive, default=16, help="posterior draws")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--batch-size", type=_positive, default=32, help="images at a time")
    parser.add_argument("--max-examples", type=_positive, help="measure on so many random examples")
    parser.add_argument("--revision", help="branch, tag or commit of the checkpoint")
    parser.add_argument("--subfolder", default="", help="where in the repository the checkpoint lies")
    parser.add_argument("--token", help="default: that of `hf auth login`")
    parser.add_argument("--use-cpu", action="store_true", help="even if there is a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--update-card",
        action="store_true",
        help="put them into calibration.json and the card, on the Hub if it is there",
    )
    parser.add_argument("--create-pr", action="store_true", help="do so by a pull request")


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _metadata(options: argparse.Namespace) -> Any:
    from .hub import CardMetadata

    return CardMetadata(
        name=options.name,
        license=options.license,
        language=options.language,
        base_model=options.base_model,
        datasets=options.datasets,
        tags=options.tags,
    )


def _existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give that of a saved checkpoint.")
    return folder


def _push(options: argparse.Namespace) -> None:
    from .hub import push_checkpoint

    commit = push_checkpoint(
        _existing_folder(options.folder),
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        token=options.token,
        commit_message=options.message,
        metadata=_metadata(options),
    )
    print(commit.pr_url or commit.commit_url)


def _card(options: argparse.Namespace) -> None:
    from .hub import write_card

    print(write_card(_existing_folder(options.folder), repo_id=options.repo_id, metadata=_metadata(options)))


def _evaluate(options: argparse.Namespace) -> None:
    from transformers import AutoImageProcessor

    from .evaluation import evaluate, load_images
    from .hub import add_evaluation, fetch_checkpoint, push_figures, read_evaluations, write_card, write_evaluations
    from .modeling import BayesianModel

    where = {"revision": options.revision, "subfolder": options.subfolder, "token": options.token}
    folder = fetch_checkpoint(options.name, **where)
    model = BayesianModel.from_pretrained(folder, token=options.token)
    # Never the repository's own code: with False there is not even a question.
    source = {} if options.image_processor or Path(options.name).is_dir() else where
    processor = AutoImageProcessor.from_pretrained(
        options.image_processor or (folder if Path(options.name).is_dir() else options.name),
        trust_remote_code=False,
        **source,
    )
    data, described = load_images(
        options.dataset,
        model.config,
        processor,
        config=options.config,
        split=options.split,
        image_column=options.image_column,
        label_column=options.label_column,
        max_examples=options.max_examples,
        seed=options.seed,
        token=options.token,
    )
    evaluation = evaluate(
        model,
        data,
        num_samples=options.num_samples,
        seed=options.seed,
        batch_size=options.batch_size,
        use_cpu=options.use_cpu,
    )
    for name, value in described.items():
        setattr(evaluation, name, value)
    print(table(evaluation))
    if options.json is not None:
        options.json.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    if not options.update_card:
        return
    if Path(options.name).is_dir():
        write_evaluations(folder, add_evaluation(read_evaluations(folder), evaluation))
        print(write_card(folder))
    else:
        commit = push_figures(folder, evaluation, options.name, create_pr=options.create_pr, **where)
        print(commit.pr_url or commit.commit_url)


def table(evaluation: Any) -> str:
    """An evaluation's figures, as columns of text."""
    names = list(evaluation.metrics["predictive"])
    width = max(len(name) for name in names) + 2
    lines = [f"{evaluation.title}: {evaluation.num_examples:,} examples, {evaluation.num_samples} draws"]
    lines.append(" " * 12 + "".join(f"{name:>{width}}" for name in names))
    for row, figures in evaluation.metrics.items():
        lines.append(f"{row:<12}" + "".join(f"{figures[name]:>{width}.4f}" for name in names))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
