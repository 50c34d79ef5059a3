"""Fetching from the Hub: all files of one commit, as the Hub announced them, and none that is not needed."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx, tqdm  # type: ignore[attr-defined]
from transformers.utils import logging

from ..errors import InputError, PosteriorCheckpointError
from .base_files import INDEX_NAME, MODEL_NAME, shard_names
from .checkpoint import POSTERIOR_CONFIG_NAME
from .files import MAX_TEXT_BYTES, is_there, opened
from .loading import ADAPTER_NAME, read_config, stored_files
from .network import NoAnswerError, asking
from .untrusted import sha256, short

__all__ = ["GENERATION_NAME", "download_text", "fetch_base", "fetch_beside", "fetch_checkpoint"]

GENERATION_NAME = "generation_config.json"

logger = logging.get_logger(__name__)


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
    Return the folder of a checkpoint: `name` itself if it is one, otherwise the cached copy of that repository of the
    Hub.

    Every file comes from the commit that `revision` names when the first is fetched, even if the branch moves on
    meanwhile. Names of files come from a list of ours, never from the repository.

    Raises:
        PosteriorCheckpointError: no such folder, repository or revision, or it holds no posterior.
        HfHubHTTPError, OSError: the Hub broke off; what was fetched stays for the next try.
    """
    parts = _place(subfolder)
    if os.path.isdir(name):
        return Path(name) / subfolder
    where: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    source = _Repository(str(name), revision, parts, where)
    first = source.fetch(POSTERIOR_CONFIG_NAME)
    if first is None:
        raise PosteriorCheckpointError(
            f"{source} has no {POSTERIOR_CONFIG_NAME}{f' in {subfolder!r}' if subfolder else ''}: it holds no "
            "posterior. Use AutoModel… for the weights alone, or train one with ScoreVITrainer."
        )
    contents = read_config(first.parent)
    mean, posterior = stored_files(contents, first.parent)
    for file in ("adapter_config.json" if ADAPTER_NAME in mean else "config.json", *mean, *posterior):
        if source.fetch(file) is None:
            if file == "config.json" and "module" in contents:  # of a module that has none
                continue
            raise PosteriorCheckpointError(
                f"{source} has no {file}: the checkpoint is incomplete. Give another revision, or ask its author to "
                "push it again."
            )
    source.try_to_fetch("calibration.json")
    source.try_to_fetch(GENERATION_NAME)
    return first.parent


def download_text(name: str, file: str, *, revision: str | None, most: int = MAX_TEXT_BYTES, **where: Any) -> Path:
    """
    Call `hf_hub_download` for a file that is text.

    Raises:
        InputError: it has more than `most` bytes, and what came of it was thrown away.
    """

    class Bounded(tqdm):  # type: ignore[misc]
        """The progress bar is told how much is to come, and how much has."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._come = kwargs.get("initial") or 0
            self._check(kwargs.get("total") or 0)
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            self._come += n or 0
            self._check(self._come)
            return super().update(n)  # type: ignore[no-any-return]

        def _check(self, size: float) -> None:
            if size > most:
                raise InputError(
                    f"{file} of {name} has {size:,.0f} bytes or more, where at most {most:,} can be right. Give "
                    "another revision, or ask its author to mend it."
                )

    return Path(hf_hub_download(name, file, revision=revision, tqdm_class=Bounded, **where))


def fetch_base(name: str, revision: str | None, where: dict[str, Any]) -> tuple[Path, list[Path]]:
    """
    Return the folder of the model that an adapter belongs to, local or fetched, and the safetensors files of its
    weights.

    Args:
        where: `token`, `cache_dir`, `local_files_only`.

    Raises:
        PosteriorCheckpointError: no such model, or none whose weights are in safetensors files.
        HfHubHTTPError, OSError: the Hub broke off.
    """
    folder = Path(name) if os.path.isdir(name) else None
    source = _Repository(name, revision, PurePosixPath(), where)

    def fetch(file: str) -> Path:
        path = source.fetch(file) if folder is None else folder / file
        if path is None or not is_there(path):
            raise PosteriorCheckpointError(f"{name} has no {file}; weights are read from safetensors files alone.")
        return path

    config = fetch("config.json")
    if folder is None:
        source.try_to_fetch(GENERATION_NAME)
    if is_there(config.parent / MODEL_NAME) or (folder is None and source.fetch(MODEL_NAME)):
        return config.parent, [config.parent / MODEL_NAME]
    index = fetch(INDEX_NAME)
    return config.parent, [fetch(shard) for shard in shard_names(index)]


def fetch_beside(
    name: str | os.PathLike[str],
    file: str,
    *,
    revision: str | None = None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    most: int = MAX_TEXT_BYTES,
) -> Path | None:
    """
    Return a file of a model that is none of its weights, local or fetched; `None` if there is none of that name.

    Args:
        most: bytes of a JSON file that is fetched.

    Raises:
        PosteriorCheckpointError: no such folder, repository or revision.
        HfHubHTTPError, OSError: the Hub broke off.
    """
    place = _place(subfolder)
    if os.path.isdir(name):
        path = Path(name) / place / file
        return path if is_there(path) else None
    where = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    return _Repository(str(name), revision, place, where).fetch(file, most)


def _place(subfolder: str) -> PurePosixPath:
    parts = PurePosixPath(subfolder)
    if parts.is_absolute() or ".." in parts.parts or "\\" in subfolder:
        raise ValueError(f"subfolder must lie within the checkpoint, not be {subfolder!r}.")
    return parts


class _Repository:
    """A repository of the Hub, at the commit that `revision` names when the first of its files is fetched."""

    def __init__(self, name: str, revision: str | None, subfolder: PurePosixPath, where: dict[str, Any]) -> None:
        self._name, self._revision, self._place, self._where = name, revision, subfolder, where
        self._text = name + (f" at {revision}" if revision else "")
        self._folder: Path | None = None

    def __str__(self) -> str:
        return self._text

    def fetch(self, file: str, most: int = MAX_TEXT_BYTES) -> Path | None:
        """Return the file in the cache, fetched if need be; `None` if the repository has none of that name."""
        if self._folder is not None:
            if (self._folder / file).is_file():
                return self._folder / file
            known = try_to_load_from_cache(
                self._name, str(self._place / file), cache_dir=self._where["cache_dir"], revision=self._revision
            )
            if known is _CACHED_NO_EXIST:
                return None
        for _ in range(2):
            path = self._download(file, most)
            if path is None:
                return None
            if _as_announced(path):
                self._folder = path.parent
                self._revision = path.parents[len(self._place.parts)].name  # …/snapshots/<commit>/<place>/<file>
                return path
            for stored in (path.resolve(), path.parent / os.readlink(path), path):
                stored.unlink(missing_ok=True)
        raise PosteriorCheckpointError(f"{file} of {self} was damaged on its way here, twice. Try again.")

    def try_to_fetch(self, file: str) -> None:
        """Return a file that a repository may have, and that may be left out while the Hub does not answer."""
        try:
            self.fetch(file)
        except PosteriorCheckpointError as error:
            logger.warning(f"{error} The model is loaded without it.")

    @asking()
    def _download(self, file: str, most: int) -> Path | None:
        try:
            place = self._place / file
            if place.suffix == ".json":
                return download_text(self._name, str(place), revision=self._revision, most=most, **self._where)
            return Path(hf_hub_download(self._name, str(place), revision=self._revision, **self._where))
        except RemoteEntryNotFoundError:
            return None
        except LocalEntryNotFoundError as error:
            raise PosteriorCheckpointError(
                f"{file} of {self} is not in the cache, and the Hub was not asked or did not answer "
                f"({short(error.__cause__ or error)}). Fetch it while online, or give a saved folder."
            ) from error
        except HFValidationError as error:
            raise PosteriorCheckpointError(
                f"{self} is neither a folder nor the name of a repository: give the folder of a saved checkpoint, or "
                "user/repository."
            ) from error
        except RevisionNotFoundError as error:
            raise PosteriorCheckpointError(
                f"{self._name} has no revision {self._revision!r}: give a branch, tag or commit of it."
            ) from error
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 403, 404):
                raise
            raise PosteriorCheckpointError(
                f"{self} is neither a folder nor a repository of the Hub that can be read. If it is private or gated, "
                f"give the token of a user who may read it, or run `hf auth login` ({short(error)})."
            ) from error
        except (httpx.HTTPError, NoAnswerError) as error:
            raise OSError(
                f"The Hub broke off while {file} of {self} was fetched ({short(error)}). Try again."
            ) from error


def _as_announced(path: Path) -> bool:
    """
    Return whether a file of the cache has the hash that the Hub announced: where the cache can link, it is its name.
    """
    announced = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    if re.fullmatch("[0-9a-f]{64}", announced):
        return sha256(path) == announced
    if re.fullmatch("[0-9a-f]{40}", announced):  # git's, or that of a proxy
        with opened(path) as file:
            hashes = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size), hashlib.sha1()
            while data := file.read(1 << 20):
                for own in hashes:
                    own.update(data)
        return announced in [own.hexdigest() for own in hashes]
    return True
