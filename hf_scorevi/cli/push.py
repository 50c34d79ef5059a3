"""`hf-scorevi push` and `hf-scorevi card`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_folder, add_metadata, add_token, command, metadata

__all__ = ["add_card", "add_push"]


def add_push(commands: Any) -> None:
    parser = command(
        commands,
        _push,
        "push",
        "DIR REPO",
        "push a checkpoint to the Hub",
        "Write the model card of the checkpoint in DIR, and push all that lies there to the Hub in one commit. What "
        "has not changed is not sent, what people have written on the card stays, and training checkpoints, pickles "
        "and hidden files are left out.",
    )
    add_folder(parser)
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
    add_token(parser)
    add_metadata(parser)


def add_card(commands: Any) -> None:
    parser = command(
        commands,
        _card,
        "card",
        "DIR",
        "write a checkpoint's model card anew",
        "Write README.md and its pictures from the other files in DIR. Of a card that is there, only the part that "
        "hf-scorevi wrote is replaced.",
    )
    add_folder(parser)
    parser.add_argument("--repo-id", metavar="REPO", help="user/repository that the examples name (default: made up)")
    add_metadata(parser)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder. Give that of a saved checkpoint.")
    return folder


def _push(options: argparse.Namespace) -> None:
    from ..hub import push_checkpoint

    commit = push_checkpoint(
        _existing(options.folder),
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        token=options.token,
        commit_message=options.message,
        metadata=metadata(options),
    )
    print(commit.pr_url or commit.commit_url)


def _card(options: argparse.Namespace) -> None:
    from ..hub import write_card

    print(write_card(_existing(options.folder), repo_id=options.repo_id, metadata=metadata(options)))
