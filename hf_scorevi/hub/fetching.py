"""Fetching a checkpoint from the Hub: mean and posterior of one commit, and no file that is not needed."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)

from ..errors import PosteriorCheckpointError
from .checkpoint import POSTERIOR_CONFIG_NAME
from .loading import read_config, stored_files

__all__ = ["fetch_checkpoint"]

_WELCOME = ("calibration.json", "generation_config.json")


def fetch_checkpoint(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """
    The folder of a checkpoint: `name` itself if it is one, otherwise the cached copy of that repository of the Hub.

    Every file comes from the commit that `revision` names when the first is fetched, even if the branch moves on
    meanwhile. Names of files come from a list of ours, never from the repository.

    Raises:
        PosteriorCheckpointError: no such folder or repository, or it holds no posterior.
        HfHubHTTPError, OSError: the Hub cannot be reached, or broke off; what was fetched stays for the next try.
    """
    if Path(name).is_dir():
        return _inside(Path(name), subfolder)
    where: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    where["subfolder"] = subfolder or None
    _inside(Path(), subfolder)
    source = f"{name}" + (f" at {revision}" if revision else "")
    try:
        first = Path(hf_hub_download(str(name), POSTERIOR_CONFIG_NAME, revision=revision, **where))
    except LocalEntryNotFoundError as error:
        raise PosteriorCheckpointError(
            f"{source} is not in the cache, and the Hub was not asked or could not be reached ({_reason(error)}). "
            "Fetch it once while online, or give the folder of a saved checkpoint."
        ) from error
    except EntryNotFoundError as error:
        raise PosteriorCheckpointError(
            f"{source} has no {POSTERIOR_CONFIG_NAME}{f' in {subfolder!r}' if subfolder else ''}: it holds no "
            "posterior. Use AutoModel… for the weights alone, or train one with ScoreVITrainer."
        ) from error
    except HFValidationError as error:
        raise PosteriorCheckpointError(
            f"{name} is neither a folder nor the name of a repository: give the folder of a saved checkpoint, or "
            "user/repository."
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403, 404):
            raise
        raise PosteriorCheckpointError(
            f"{source} is neither a folder nor a repository of the Hub that can be read: {_reason(error)}"
        ) from error

    folder = first.parent
    commit = _commit(folder, subfolder)

    def fetch_if_there(file: str) -> bool:
        try:
            hf_hub_download(str(name), file, revision=commit, **where)
        except RemoteEntryNotFoundError:
            return False
        except LocalEntryNotFoundError:  # not to be had now; whether the repository has it is not known
            if file in _WELCOME:
                return False
            raise
        return True

    mean, posterior = stored_files(read_config(folder), folder)
    needed = ["adapter_config.json" if any(file.startswith("adapter_") for file in mean) else "config.json"]
    needed += ["model.safetensors.index.json"] if len(mean) > 1 else []
    for file in (*needed, *mean, *posterior):
        if not fetch_if_there(file):
            raise PosteriorCheckpointError(
                f"{source} has no {file}: the checkpoint is incomplete. Give another revision, or ask its author to "
                "push it again."
            )
    for file in _WELCOME:
        fetch_if_there(file)
    return folder


def _inside(folder: Path, subfolder: str) -> Path:
    parts = PurePosixPath(subfolder)
    if parts.is_absolute() or ".." in parts.parts or "\\" in subfolder:
        raise ValueError(f"subfolder must lie within the checkpoint, not be {subfolder!r}.")
    return folder / subfolder


def _commit(folder: Path, subfolder: str) -> str:
    """The commit of a file in the cache, whose folders are …/snapshots/<commit>/<subfolder>."""
    for _ in PurePosixPath(subfolder).parts:
        folder = folder.parent
    return folder.name


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
