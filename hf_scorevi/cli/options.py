"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # imported by the commands themselves: `--help` need not wait for torch and transformers
    from ..hub import CardMetadata


_MOST = 10**9  # of examples, draws and images at a time


class _HelpFormatter(argparse.HelpFormatter):
    """Add to the help the defaults that its text does not state."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.nargs == 0 or action.default in (None, "", ())
        return action.help if told else f"{action.help} (default: %(default)s)"


def command(
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


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="checkpoint that the trainer or save_pretrained wrote"
    )


def add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", help="access token of the Hub (default: that of `hf auth login`)")


def add_metadata(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "the card's metadata; what is given replaces what a card has, lists are added to"
    )
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


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    if int(text) > _MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number of at most {_MOST:,}, not {text!r}")
    return int(text)


def seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2**32 - 1, not {text!r}")
    return int(text)


def new_file(text: str) -> Path:
    if not Path(text).parent.is_dir() or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: its folder is missing, or it is one")
    return Path(text)


def new_folder(text: str) -> Path:
    if not Path(text).parent.is_dir() or Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be made: the folder around it is missing, or it is a file")
    return Path(text)


def metadata(options: argparse.Namespace) -> CardMetadata:
    from ..hub import CardMetadata

    return CardMetadata(
        name=options.name,
        license=options.license,
        language=options.language,
        base_model=options.base_model,
        datasets=options.datasets,
        tags=options.tags,
    )
