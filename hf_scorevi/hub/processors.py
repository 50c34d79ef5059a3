"""
Loading what makes a model's inputs (image processor, feature extractor, tokenizer) from files of JSON and text alone:
transformers would run code that lies beside them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..errors import PosteriorCheckpointError
from .fetching import fetch_beside
from .files import read_bytes, remedy
from .model_config import read_model_config
from .network import without_network
from .untrusted import read_json, short

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, FeatureExtractionMixin, PreTrainedTokenizerBase

__all__ = [
    "PROCESSOR_FILES",
    "TOKENIZER_FILES",
    "load_feature_extractor",
    "load_image_processor",
    "load_tokenizer",
]

# Where a processor is described: by itself, among a processor's parts, or (timm's) with the model.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_CONFIG = "config.json"
# A tokenizer: the whole of it, or its vocabulary; and its settings.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
_MERGES, _SETTINGS = "merges.txt", ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_MOST_BYTES = 128 << 20  # of one of these: vocabularies of 250,000 words have 20 or 30 MB
# What names code, or files that some processors would read.
_ELSEWHERE = re.compile(r"auto_map|custom_pipelines|.*_(file|path|repo|url|dir|folder)")
# Of pixels along an edge that pictures are brought to.
_LENGTHS, _MOST = re.compile(r".*size|height|width|.*_edge"), 4096


def load_image_processor(
    name: str | os.PathLike[str], *, revision: str | None = None, subfolder: str = "", **where: Any
) -> BaseImageProcessor:
    """
    Load the image processor of a model, a class of transformers. No code from the checkpoint is executed, or asked
    about.

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

    kinds = ("image_processor_type", "feature_extractor_type", "image_processor")
    where |= {"revision": revision, "subfolder": subfolder}
    return _load_processor(name, "image processor", AutoImageProcessor, kinds, where)  # type: ignore[no-any-return]


def load_feature_extractor(
    name: str | os.PathLike[str], *, revision: str | None = None, subfolder: str = "", **where: Any
) -> FeatureExtractionMixin:
    """Load the feature extractor of a model of audio, as `load_image_processor` loads that of images."""
    from transformers import AutoFeatureExtractor

    kinds = ("feature_extractor_type", "feature_extractor")
    where |= {"revision": revision, "subfolder": subfolder}
    return _load_processor(name, "feature extractor", AutoFeatureExtractor, kinds, where)  # type: ignore[no-any-return]


def load_tokenizer(
    name: str | os.PathLike[str], *, revision: str | None = None, subfolder: str = "", **where: Any
) -> PreTrainedTokenizerBase:
    """
    Load the tokenizer of a model, as `load_image_processor` loads its image processor: from tokenizer.json, or from a
    vocabulary in vocab.txt or vocab.json and merges.txt. Others, such as those of sentencepiece, are not read.
    """
    from transformers import AutoTokenizer, PreTrainedConfig

    def fetch(file: str) -> Path | None:
        return fetch_beside(name, file, revision=revision, subfolder=subfolder, most=_MOST_BYTES, **where)

    first = next((path for file in TOKENIZER_FILES if (path := fetch(file)) is not None), None)
    if first is None:
        raise PosteriorCheckpointError(f"{name} has no tokenizer that is read here: there is no {TOKENIZER_FILES[0]}.")
    files = {first.name: _read(first)}
    if first.name == "vocab.json" and (path := fetch(_MERGES)) is not None:
        files[_MERGES] = _read(path)
    for file in _SETTINGS:
        if (path := fetch(file)) is not None:
            files[file] = json.dumps(_without_references(_read_settings(path))).encode()
    own = fetch(_CONFIG)
    config = PreTrainedConfig() if own is None else read_model_config(own)
    found = _built("tokenizer", AutoTokenizer.from_pretrained, name, first, files, config)
    found.name_or_path = str(name)
    return found  # type: ignore[no-any-return]


def _load_processor(
    name: str | os.PathLike[str], what: str, auto: Any, kinds: tuple[str, ...], where: dict[str, Any]
) -> Any:
    """
    Args:
        kinds: keys of a description that names its class.
    """

    def fetch(file: str) -> Path | None:
        return fetch_beside(name, file, **where)

    found = {file: path for file in PROCESSOR_FILES if (path := fetch(file)) is not None}
    if not found and (path := fetch(_CONFIG)) is not None:
        found = {_CONFIG: path}
    if not found:
        raise PosteriorCheckpointError(f"{name} has no {what}: there is no {PROCESSOR_FILES[0]}.")
    contents = {file: _without_references(read_json(path)) for file, path in found.items()}
    for file, values in contents.items():
        _check_lengths(values, "", found[file])
    if any(kind in own for own in contents.values() for kind in kinds) or _CONFIG in found:
        config = None
    else:  # an old one, of the kind that its model has
        config = None if (path := fetch(_CONFIG)) is None else read_model_config(path)
    files = {file: json.dumps(values).encode() for file, values in contents.items()}
    return _built(what, auto.from_pretrained, name, next(iter(found.values())), files, config)


def _built(
    what: str, load: Callable[..., Any], name: str | os.PathLike[str], path: Path, files: dict[str, bytes], config: Any
) -> Any:
    """Return what transformers makes of these files alone."""
    with TemporaryDirectory() as folder:
        for file, content in files.items():
            (Path(folder) / file).write_bytes(content)
        try:
            with without_network(path):
                return load(folder, config=config, trust_remote_code=False)
        except PosteriorCheckpointError:
            raise
        except Exception as error:  # values in the files may be of any type
            reason = short(error).replace(folder, str(name))
            raise PosteriorCheckpointError(
                f"{path} describes no {what} that transformers has ({reason}). Code from a checkpoint is never "
                "executed."
            ) from error


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _MOST_BYTES)
    except ValueError as error:
        raise PosteriorCheckpointError(f"{path} cannot be right: {short(error)}. {remedy(path)}") from error


def _read_settings(path: Path) -> Any:
    """Unlike `read_json` with whole numbers of any size: a tokenizer without a longest input says 10³⁰."""
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise PosteriorCheckpointError(f"{path} cannot be read as JSON ({short(error)}). {remedy(path)}") from error


def _without_references(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_references(own) for name, own in value.items() if not _ELSEWHERE.fullmatch(name)}
    return [_without_references(own) for own in value] if isinstance(value, list) else value


def _check_lengths(value: Any, key: str, path: Path) -> None:
    if isinstance(value, dict):
        for name, own in value.items():
            _check_lengths(own, name, path)
    elif isinstance(value, list):
        for own in value:
            _check_lengths(own, key, path)
    elif isinstance(value, int | float) and abs(value) > _MOST and _LENGTHS.fullmatch(key):
        raise PosteriorCheckpointError(f"{path} has {short(key)} = {value}; pictures of at most {_MOST} can be right.")
