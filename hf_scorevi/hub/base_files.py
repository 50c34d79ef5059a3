"""The files of a base model's weights, in a folder or in the cache of the Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from ..errors import PosteriorCheckpointError
from .files import remedy
from .untrusted import read_json

__all__ = ["COMMIT", "INDEX_NAME", "MODEL_NAME", "bases_at_hand", "shard_names"]

MODEL_NAME = "model.safetensors"
INDEX_NAME = f"{MODEL_NAME}.index.json"
COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"[\w.-]+\.safetensors")


def bases_at_hand(name: str, revision: str | None) -> Iterator[tuple[str | None, list[Path]]]:
    """
    Yield the commits of a base model that this machine has, with their safetensors files: those in the folder `name`,
    or of each commit in the Hub's cache, that of `revision` (a branch, tag or commit) first.
    """
    folders: list[tuple[str | None, Path]] = [(None, Path(name))]
    if not os.path.isdir(name):
        cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        ref = cached / "refs" / (revision or "main")
        first = ref.read_text().strip() if ref.is_file() else revision
        known = [path for path in (cached / "snapshots").glob("*") if COMMIT.fullmatch(path.name)]
        known.sort(key=lambda path: (path.name != first, -path.stat().st_mtime))
        folders = [(path.name, path) for path in known]
    for commit, folder in folders:
        index = folder / INDEX_NAME
        names = [MODEL_NAME] if (folder / MODEL_NAME).is_file() else shard_names(index) if index.is_file() else []
        if names and all((folder / file).is_file() for file in names):
            yield commit, [folder / file for file in names]


def shard_names(index: Path) -> list[str]:
    """
    Return the files that an index names.

    Raises:
        PosteriorCheckpointError: it names none, or others than safetensors files beside it.
    """
    shards = read_json(index).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(shard, str) and _SHARD.fullmatch(shard) for shard in names):
        raise PosteriorCheckpointError(f"{index} does not name safetensors files beside it. {remedy(index)}")
    return sorted(set(names))
