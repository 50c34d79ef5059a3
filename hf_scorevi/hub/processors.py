"""Loading the image processor of a checkpoint from its JSON files alone: transformers would run code beside them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import PosteriorCheckpointError
from .fetching import fetch_beside
from .models import read_model_config
from .network import without_network
from .untrusted import read_json, short

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

__all__ = ["load_image_processor"]

# Where it is described: by itself, among a processor's parts, or (timm's) with the model.
_FILES = ("preprocessor_config.json", "processor_config.json")
_CONFIG = "config.json"
# What names code, or files that some processors would read.
_ELSEWHERE = re.compile(r"auto_map|custom_pipelines|.*_(file|path|repo|url|dir|folder)")
# Of pixels along an edge that pictures are brought to.
_LENGTHS, _MOST = re.compile(r".*size|height|width|.*_edge"), 4096


def load_image_processor(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str = "",
    **where: Any,
) -> BaseImageProcessor:
    """
    The image processor of a model, a class of transformers. No code from the checkpoint is executed, or asked about.

    Args:
        name: folder or repository.
        revision: branch, tag or commit.
        subfolder: where in it.
        where: `token`, `cache_dir`, `local_files_only`.

    Raises:
        PosteriorCheckpointError: it has none, or a damaged one, or one that is not of transformers.
        HfHubHTTPError, OSError: the Hub broke off.
    """
    from transformers import AutoImageProcessor

    def fetch(file: str) -> Path | None:
        return fetch_beside(name, file, revision=revision, subfolder=subfolder, **where)

    found = {file: path for file in _FILES if (path := fetch(file)) is not None}
    if not found and (path := fetch(_CONFIG)) is not None:
        found = {_CONFIG: path}
    if not found:
        raise PosteriorCheckpointError(f"{name} has no image processor: there is no {_FILES[0]}.")
    path = next(iter(found.values()))
    contents = {file: _cleaned(read_json(own), "", own) for file, own in found.items()}
    kinds = ("image_processor_type", "feature_extractor_type", "image_processor")
    if any(kind in own for own in contents.values() for kind in kinds) or _CONFIG in found:
        config = None
    else:  # an old one, of the kind that its model has
        config = None if (own := fetch(_CONFIG)) is None else read_model_config(own)
    with TemporaryDirectory() as folder:
        for file, values in contents.items():
            (Path(folder) / file).write_text(json.dumps(values), encoding="utf-8")
        try:
            with without_network(path):
                return AutoImageProcessor.from_pretrained(folder, config=config, trust_remote_code=False)
        except PosteriorCheckpointError:
            raise
        except Exception as error:  # its values may be of any type
            reason = short(error).replace(folder, str(name))
            raise PosteriorCheckpointError(
                f"{path} describes no image processor that transformers has ({reason}). Code from a checkpoint is "
                "never executed."
            ) from error


def _cleaned(value: Any, key: str, path: Path) -> Any:
    if isinstance(value, dict):
        return {name: _cleaned(own, name, path) for name, own in value.items() if not _ELSEWHERE.fullmatch(name)}
    if isinstance(value, list):
        return [_cleaned(own, key, path) for own in value]
    if isinstance(value, int | float) and abs(value) > _MOST and _LENGTHS.fullmatch(key):
        raise PosteriorCheckpointError(f"{path} has {short(key)} = {value}; pictures of at most {_MOST} can be right.")
    return value
