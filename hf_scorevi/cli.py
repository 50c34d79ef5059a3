"""`hf-scorevi`: push a checkpoint, write its card, measure it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

if TYPE_CHECKING:  # imported by the commands themselves: `--help` need not wait for torch and transformers
    from datasets import Dataset
    from transformers import BaseImageProcessor

    from .hub import CardMetadata, Evaluation
    from .modeling import BayesianModel

__all__ = ["main"]

_EXAMPLES = """\
examples:
  hf-scorevi push outputs/pets me/vit-pets-bayesian --private
  hf-scorevi card outputs/pets --license apache-2.0
  hf-scorevi evaluate me/vit-pets-bayesian --dataset timm/oxford-iiit-pet --split test
  hf-scorevi evaluate outputs/pets --dataset photos --num-samples 64 --json figures.json --update-card

`hf-scorevi COMMAND --help` has the options of each. Where they ask for a token, the default is the one that
`hf auth login` has stored or HF_TOKEN holds.
"""
_OTHER_PROCESSOR = (
    "Give --image-processor a repository or folder that has the right one, such as the model it was fine-tuned from."
)
_DESCRIPTION = """\
A Bayesian checkpoint is a folder that ScoreVITrainer or BayesianModel.save_pretrained wrote: a model's weights, and a
posterior over them. This pushes it to the Hugging Face Hub, writes its model card, and measures its calibration.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The program; `argv` defaults to the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hf-scorevi",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for add in (_add_push, _add_card, _add_evaluate):
        add(commands)
    options = parser.parse_args(argv)
    try:
        options.run(options)
    except (OSError, ValueError, ImportError, httpx.HTTPError) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


class _HelpFormatter(argparse.HelpFormatter):
    """Adds the defaults that the help's text does not tell itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.nargs == 0 or action.default in (None, "", ())
        return action.help if told else f"{action.help} (default: %(default)s)"


def _command(
    commands: Any, run: Any, name: str, arguments: str, summary: str, description: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        usage=f"hf-scorevi {name} {arguments} [options]",
        help=summary,
        description=description,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,  # a misspelt option is an error, not another option
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def _add_push(commands: Any) -> None:
    parser = _command(
        commands,
        _push,
        "push",
        "DIR REPO",
        "push a checkpoint to the Hub",
        "Write the model card of the checkpoint in DIR, and push all that lies there to the Hub in one commit. What "
        "has not changed is not sent, what people have written on the card stays, and training checkpoints, pickles "
        "and hidden files are left out.",
    )
    _add_folder(parser)
    parser.add_argument("repo_id", metavar="REPO", help="user/repository on the Hub; made if it is not there")
    parser.add_argument(
        "--private",
        action="store_true",
        default=None,
        help="make a new repository private (default: as your account has it); one that is there stays as it is",
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch, made if it is not there (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request in place of a commit")
    parser.add_argument("--message", default="Upload a Bayesian checkpoint with hf-scorevi", help="of the commit")
    _add_token(parser)
    _add_metadata(parser)


def _add_card(commands: Any) -> None:
    parser = _command(
        commands,
        _card,
        "card",
        "DIR",
        "write a checkpoint's model card anew",
        "Write README.md and its pictures from the other files in DIR. Of a card that is there, only the part that "
        "hf-scorevi wrote is replaced.",
    )
    _add_folder(parser)
    parser.add_argument("--repo-id", metavar="REPO", help="user/repository that the examples name (default: made up)")
    _add_metadata(parser)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="checkpoint that the trainer or save_pretrained wrote"
    )


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", help="access token of the Hub (default: that of `hf auth login`)")


def _add_metadata(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the card's metadata; what a card has already stays")
    group.add_argument("--name", help="the model's (default: the repository's, or the folder's)")
    group.add_argument("--license", metavar="ID", help="as the Hub calls it, e.g. apache-2.0 (default: none)")
    group.add_argument("--language", metavar="CODE", help="of the data, e.g. en (default: none)")
    group.add_argument("--base-model", metavar="REPO", help="fine-tuned from (default: what the training recorded)")
    group.add_argument(
        "--datasets",
        nargs="+",
        metavar="REPO",
        default=(),
        help="data on the Hub that it was trained on (default: what the training recorded)",
    )
    group.add_argument("--tags", nargs="+", metavar="TAG", default=(), help="to be found by (default: only our own)")


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        _evaluate,
        "evaluate",
        "REPO --dataset DATA",
        "measure a checkpoint's calibration",
        "Measure an image classifier: accuracy, NLL, calibration errors and Brier score, of its posterior predictive "
        "and of its mean weights alone. (Other models: hf_scorevi.evaluation.evaluate in Python.)",
    )
    parser.add_argument("name", metavar="REPO", help="user/repository on the Hub, or a checkpoint's folder")
    parser.add_argument("--revision", help="branch, tag or commit of REPO (default: main)")
    parser.add_argument("--subfolder", default="", help="where in REPO the checkpoint lies (default: at its top)")
    parser.add_argument(
        "--image-processor", metavar="REPO", help="repository or folder of another one (default: the checkpoint's)"
    )
    _add_token(parser)

    data = parser.add_argument_group("data; labels are matched with the model's classes by name")
    data.add_argument(
        "--dataset",
        metavar="DATA",
        required=True,
        help="data set on the Hub; folder with a subfolder of images a class; or file of rows: parquet, arrow, csv, "
        "json, jsonl",
    )
    data.add_argument("--config", help="configuration of a data set on the Hub (default: its only one)")
    data.add_argument("--split", default="test", help="split of a data set on the Hub")
    data.add_argument("--image-column", metavar="NAME", default="image", help="column of the images")
    data.add_argument("--label-column", metavar="NAME", default="label", help="column of the labels")
    data.add_argument(
        "--max-examples", metavar="N", type=_positive, help="measure on so many, drawn by --seed (default: on all)"
    )

    how = parser.add_argument_group("how to measure")
    how.add_argument("--num-samples", metavar="S", type=_positive, default=16, help="posterior draws to average over")
    how.add_argument("--seed", metavar="N", type=_seed, default=0, help="of the draws")
    how.add_argument("--batch-size", metavar="N", type=_positive, default=32, help="images at a time")
    how.add_argument("--use-cpu", action="store_true", help="leave a GPU alone (default: use it if there is one)")

    out = parser.add_argument_group("what becomes of the figures; they are printed in any case")
    out.add_argument("--json", metavar="FILE", type=_new_file, help="write them there")
    out.add_argument(
        "--update-card",
        action="store_true",
        help="put them into calibration.json and the card, in the folder or in one commit on the Hub",
    )
    out.add_argument("--create-pr", action="store_true", help="with --update-card: by a pull request on the Hub")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2**32 - 1, not {text!r}")
    return int(text)


def _new_file(text: str) -> Path:
    if not Path(text).parent.is_dir() or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: its folder is missing, or it is one")
    return Path(text)


def _metadata(options: argparse.Namespace) -> CardMetadata:
    from .hub import CardMetadata

    return CardMetadata(
        name=options.name,
        license=options.license,
        language=options.language,
        base_model=options.base_model,
        datasets=options.datasets,
        tags=options.tags,
    )


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give that of a saved checkpoint.")
    return folder


def _push(options: argparse.Namespace) -> None:
    from .hub import push_checkpoint

    commit = push_checkpoint(
        _existing(options.folder),
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

    print(write_card(_existing(options.folder), repo_id=options.repo_id, metadata=_metadata(options)))


def _evaluate(options: argparse.Namespace) -> None:
    is_local = Path(options.name).is_dir()
    if options.create_pr and (is_local or not options.update_card):
        options.parser.error("--create-pr goes with --update-card, for a repository on the Hub")
    where = {"revision": options.revision, "subfolder": options.subfolder, "token": options.token}

    from .hub import (
        add_evaluation,
        fetch_checkpoint,
        push_figures,
        read_evaluations,
        read_recalibration,
        write_card,
        write_evaluations,
    )

    folder = fetch_checkpoint(options.name, **where)
    evaluation = _measure(options, folder)
    print(_table(evaluation))
    if options.json is not None:
        options.json.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")
    if options.update_card and is_local:
        evaluations = add_evaluation(read_evaluations(folder), evaluation)
        write_evaluations(folder, evaluations, read_recalibration(folder))
        print(write_card(folder))
    elif options.update_card:
        commit = push_figures(folder, evaluation, options.name, create_pr=options.create_pr, **where)
        print(commit.pr_url or commit.commit_url)


def _measure(options: argparse.Namespace, folder: Path) -> Evaluation:
    """The figures of the checkpoint in `folder`."""
    import torch

    from .evaluation import evaluate, load_images
    from .modeling import BayesianModel

    model = BayesianModel.from_pretrained(folder, token=options.token)
    architecture = (model.config.architectures or [""])[0]
    if "ForImageClassification" not in architecture:
        raise ValueError(
            f"{options.name} is a {architecture or type(model.model).__name__}, and this command measures image "
            "classifiers. Measure others in Python, with hf_scorevi.evaluation.evaluate(model, dataset)."
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
    try:
        evaluation = evaluate(
            model,
            data,
            num_samples=options.num_samples,
            seed=options.seed,
            batch_size=options.batch_size,
            use_cpu=options.use_cpu,
        )
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{error} Give a smaller --batch-size, or --use-cpu.") from error
    for name, value in described.items():
        setattr(evaluation, name, value)
    return evaluation


def _image_processor(options: argparse.Namespace, folder: Path) -> BaseImageProcessor:
    from transformers import AutoImageProcessor

    source, where = options.image_processor or folder, {}
    if not options.image_processor and not Path(options.name).is_dir():  # `folder` has only what a model needs
        source, where = options.name, {"revision": options.revision, "subfolder": options.subfolder}
    try:
        # Never a repository's own code: with False there is not even a question.
        return AutoImageProcessor.from_pretrained(source, token=options.token, trust_remote_code=False, **where)
    except Exception as error:  # its files may be anybody's
        raise ValueError(
            f"{source} has no image processor that can be loaded ({' '.join(str(error).split())}). {_OTHER_PROCESSOR}"
        ) from error


def _check_fit(model: BayesianModel, data: Dataset) -> None:
    """Whether the model takes what the image processor makes of the first image."""
    import torch

    from .image_data import InputError

    try:
        with torch.no_grad():
            model.model(pixel_values=data[:1]["pixel_values"].to(model.device))
    except InputError:  # of that image
        raise
    except Exception as error:  # a processor of another model may do anything
        raise ValueError(f"The image processor does not fit the model ({error}). {_OTHER_PROCESSOR}") from error


def _table(evaluation: Evaluation) -> str:
    """The figures as columns of text."""
    names = list(evaluation.metrics["predictive"])
    width = max(len(name) for name in names) + 2
    lines = [f"{evaluation.title}: {evaluation.num_examples:,} examples, {evaluation.num_samples} draws"]
    lines.append(" " * 12 + "".join(f"{name:>{width}}" for name in names))
    for row, figures in evaluation.metrics.items():
        lines.append(f"{row:<12}" + "".join(f"{figures[name]:>{width}.4f}" for name in names))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
