"""Pushing a checkpoint to the Hub, in one commit: no reader ever meets a mean with another's posterior."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import (
    CommitInfo,
    CommitOperationDelete,
    HfApi,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from transformers.utils import logging

from ..errors import InputError, PushError
from ..posthoc import Recalibration
from .calibration import (
    CALIBRATION_NAME,
    Evaluation,
    add_evaluation,
    read_evaluations,
    read_recalibration,
    write_evaluations,
)
from .card import CARD_NAME, CardMetadata, make_card, read_card
from .card_merging import MAX_CARD_BYTES, has_own_text
from .checkpoint import MEAN_FILE, POSTERIOR_CONFIG_NAME, POSTERIOR_FILE
from .fetching import download_text
from .files import is_there, own_path, read_bytes, write_aside
from .loading import read_checkpoint
from .network import Addition, asking
from .untrusted import short

__all__ = ["TRAINING_STATE", "Part", "push_checkpoint", "push_error", "push_figures", "reason_of"]

# A card whose text could not be joined with that on the Hub.
_LOCAL_CARD = "README.local.md"
# Pickles and what is unfinished or private: never pushed as part of a model.
_NEVER = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.tmp", _LOCAL_CARD)
_NO_FOLDERS = ("checkpoint-*", "incomplete-*")
# What a card is written from, beside the posterior's own files.
_DESCRIBED = (
    "config.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
# What training goes on from, and nobody else needs.
TRAINING_STATE = ("score_vi_state.safetensors", "trainer_state.json")

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")
# What huggingface_hub raises for an answer without what it looks for.
_NO_ANSWER_OF_A_HUB = (LookupError, TypeError, AttributeError, json.JSONDecodeError)

logger = logging.get_logger(__name__)


@dataclass
class Part:
    """
    A folder to push beside the checkpoint, whole.

    Attributes:
        folder: of this machine.
        path: its name in the repository.
    """

    folder: Path
    path: str


@asking()
def push_checkpoint(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
    commit_message: str = "Upload a Bayesian checkpoint with hf_scorevi",
    metadata: CardMetadata | None = None,
    ignore: Sequence[str] = (),
    parts: Sequence[Part] = (),
) -> CommitInfo:
    """
    Push a checkpoint's folder with its card, made anew around what people have written on the Hub.

    One commit has it all; what has not changed is not sent, and if nothing has, there is no commit. Weights of an
    earlier push that this one does not have are deleted.

    Args:
        folder: as `save_pretrained` or the trainer wrote it, with whatever else lies in it (image processor, logs),
            but no training checkpoints, no pickles, and nothing whose name begins with `_` or a dot.
        repo_id: `user/repository`, made if it is not there.
        private: whether a new repository is private; default: as the account has it.
        revision: the branch to push to, made if it is not there.
        create_pr: open a pull request instead, for instance on somebody else's repository.
        token: default: that of `hf auth login`.
        metadata: for the card.
        ignore: further names or globs to leave out.
        parts: other folders to put into the same commit.

    Raises:
        PosteriorCheckpointError: the folder holds no posterior, or not that of its weights. Nothing is pushed.
        PushError: the Hub refused or broke off, or the folder has links out of it, whose targets are not sent; the
            sentence has the command to try again. The folder is whole.
    """
    folder = Path(folder)
    read_checkpoint(folder)
    api = HfApi(token=token)  # type: ignore[arg-type]
    try:
        _collect(folder, ignore, parts)  # before anything is made there
        if not create_pr:
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not create_pr and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        _update_card(folder, _remote_card(api, repo_id, revision), repo_id, metadata)
        files = _collect(folder, ignore, parts)
        additions = [Addition(name, path) for name, path in sorted(files.items())]
        stale = [name for name in api.list_repo_files(repo_id, revision=revision) if _is_stale(name, files, parts)]
        return api.create_commit(
            repo_id,
            [*additions, *(CommitOperationDelete(name) for name in stale)],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # an answer that is no Hub's makes its client raise whatever Python does
        raise push_error(error, folder, repo_id) from error


@asking()
def push_figures(
    folder: Path,
    found: Evaluation | Recalibration,
    repo_id: str,
    *,
    revision: str | None = None,
    subfolder: str = "",
    create_pr: bool = False,
    token: str | bool | None = None,
) -> CommitInfo:
    """
    Put an evaluation or a recalibration into `calibration.json` and the card of a checkpoint on the Hub. A
    recalibration replaces the evaluations, which were of another predictive.

    Args:
        folder: the checkpoint as `fetch_checkpoint` gave it; it is not written to.
        revision: the branch that it was fetched from.

    Raises:
        PushError: the Hub refused, or has other weights by now.
    """
    api = HfApi(token=token)  # type: ignore[arg-type]
    place = f"{subfolder.strip('/')}/" if subfolder.strip("/") else ""
    try:
        head = api.repo_info(repo_id, revision=revision).sha
        with TemporaryDirectory() as name:
            aside = Path(name)
            for described in (POSTERIOR_CONFIG_NAME, CALIBRATION_NAME, *_DESCRIBED):
                if is_there(folder / described):
                    (aside / described).write_bytes(read_bytes(own_path(folder / described, folder)))
            theirs = download_text(repo_id, place + POSTERIOR_CONFIG_NAME, revision=head, token=api.token)
            if read_bytes(theirs) != read_bytes(folder / POSTERIOR_CONFIG_NAME):
                raise ValueError("the weights there have changed since these were measured.")
            if isinstance(found, Recalibration):
                message = f"Recalibrated on {found.dataset}"
                write_evaluations(aside, [], found)
            else:
                message = f"Figures on {found.title}"
                write_evaluations(aside, add_evaluation(read_evaluations(aside), found), read_recalibration(aside))
            card = make_card(aside, repo_id=repo_id, existing=_remote_card(api, repo_id, head, place))
            (aside / CARD_NAME).write_text(card, encoding="utf-8")
            changed = [CALIBRATION_NAME, CARD_NAME, *(path.name for path in aside.glob("*.png"))]
            return api.create_commit(
                repo_id,
                [Addition(place + file, aside / file) for file in changed],
                commit_message=message,
                revision=revision,
                create_pr=create_pr,
                parent_commit=None if create_pr else head,
            )
    except Exception as error:
        raise PushError(
            f"The figures could not be added to {repo_id}: {reason_of(error)}", reason_of(error)
        ) from error


def push_error(error: BaseException, folder: Path, repo_id: str) -> PushError:
    """Say what became of a push, and how to try again."""
    return PushError(
        f"{folder} could not be pushed to {repo_id}: {reason_of(error)} The checkpoint is complete on disk; push it "
        f"later with\n    hf-scorevi push {shlex.quote(str(folder))} {shlex.quote(repo_id)}",
        reason_of(error),
    )


def reason_of(error: BaseException) -> str:
    """Say why the Hub could not be used, as a sentence without tokens."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # of one file, among several
        return f"{' '.join(str(error).split()).rstrip('.')}: {reason_of(error.__cause__)}"
    if isinstance(error, _NO_ANSWER_OF_A_HUB):
        return (
            f"The answer is not that of a Hub ({type(error).__name__}: {short(error)}). Is there a proxy in between, "
            "or a page to log in to?"
        )
    text = _TOKEN.sub("hf_…", " ".join(str(error).split()) or type(error).__name__)
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        text += " Log in by `hf auth login`, or give a token"
    return text if text.endswith((".", "!", "?")) else text + "."


def _remote_card(api: HfApi, repo_id: str, revision: str | None, place: str = "") -> str | None:
    try:
        path = download_text(repo_id, place + CARD_NAME, revision=revision, most=MAX_CARD_BYTES, token=api.token)
    except EntryNotFoundError as error:
        if isinstance(error, HfHubHTTPError):
            return None
        raise  # not in the cache, because the Hub could not be asked
    return read_card(path)


def _update_card(folder: Path, remote: str | None, repo_id: str, metadata: CardMetadata | None) -> None:
    """Write the folder's card, going on from the Hub's, if people have written there; otherwise from its own."""
    path = folder / CARD_NAME
    own = read_card(own_path(path, folder)) if is_there(path) else None
    existing = own
    if remote is not None and (own is None or has_own_text(remote) or not has_own_text(own)):
        existing = remote
    text = make_card(folder, repo_id=repo_id, metadata=metadata, existing=existing)
    if own is not None and existing is remote and has_own_text(own) and text != own:
        kept = path.with_name(_LOCAL_CARD)
        write_aside(kept, lambda aside: aside.write_bytes(own.encode("utf-8")))
        logger.warning(
            f"The card of {repo_id} on the Hub has text that people wrote there, and so has {path}. The Hub's was "
            f"kept; yours is in {kept.name}, to be put in by hand."
        )
    write_aside(path, lambda aside: aside.write_bytes(text.encode("utf-8")))


def _collect(folder: Path, ignore: Sequence[str], parts: Sequence[Part]) -> dict[str, Path]:
    """Return what is sent, by its name in the repository."""
    files = dict(_files(folder, (*_NEVER, *ignore)))
    for part in parts:
        files |= {f"{part.path}/{name}": path for name, path in _files(part.folder, ())}
    return files


def _files(root: Path, ignore: Sequence[str], below: str = "") -> Iterator[tuple[str, Path]]:
    """
    Files below `root` by their names in the repository, and where their contents lie.

    Raises:
        InputError: a link out of `root`, or to what is left out; something that is no file.
    """
    for path in sorted((root / below).iterdir()):
        if _is_left_out(path.name, ignore):
            continue
        name = f"{below}{path.name}"
        if path.is_dir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in _NO_FOLDERS):
                continue
            if not path.is_symlink():
                yield from _files(root, ignore, f"{name}/")
            elif not path.resolve().is_relative_to(root.resolve()):
                own_path(path, root)  # which says so; a link within the folder is to what is sent under its own name
            continue
        target = own_path(path, root)
        if path.is_symlink() and target.is_relative_to(root.resolve()):
            inner = target.relative_to(root.resolve()).parts
            if any(_is_left_out(part, ignore) for part in inner):
                raise InputError(
                    f"{path} is a link to {target}, which is never sent. Put a copy into its place, or delete it."
                )
        yield name, target


def _is_left_out(name: str, ignore: Sequence[str]) -> bool:
    return name.startswith(("_", ".")) or any(fnmatch.fnmatch(name, pattern) for pattern in ignore)


def _is_stale(name: str, files: dict[str, Path], parts: Sequence[Part]) -> bool:
    """
    Return whether these are weights, or their index, of an earlier push, that a reader would take for this one's.
    """
    if name in files:
        return False
    place, _, base = name.rpartition("/")
    if place not in ("", *(part.path for part in parts)):
        return False
    base = base.removesuffix(".index.json")
    return bool(MEAN_FILE.fullmatch(base) or POSTERIOR_FILE.fullmatch(base))
