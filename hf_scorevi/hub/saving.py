"""Saving a mean by its own library, which writes through links and over what is there: aside first."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers.utils import logging

from ..errors import InputError
from .card import CARD_NAME, read_card
from .card_merging import add_metadata
from .checkpoint import BASE_NAME, MEAN_FILE, file_names
from .files import is_there, own_path, remove, replace
from .loading import ADAPTER_NAME
from .untrusted import read_json

__all__ = ["saved_aside"]

_INDEX_NAMES = ("model.safetensors.index.json", f"{ADAPTER_NAME}.index.json")

logger = logging.get_logger(__name__)


@contextmanager
def saved_aside(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give a folder to save a model into, whose files then take the places of those in `folder`. Links there are
    replaced, not followed; weights of an earlier save under other names or of the other kind go; a card that is there
    stays, and what the library has put into the metadata of its own is added to it.

    Raises:
        InputError: `folder` is a file, or one of the files' places is taken by a folder.
    """
    folder = Path(folder)
    if is_there(folder) and not folder.is_dir():
        raise InputError(f"{folder} is no folder to save into. Move it away, or give another.")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".tmp", dir=folder) as name:
        aside = Path(name)
        yield aside
        if is_there(folder / CARD_NAME) and (aside / CARD_NAME).is_file():
            _go_on(aside / CARD_NAME, folder)
        written = {path.name for path in aside.iterdir()}
        has_weights = bool(file_names(aside, MEAN_FILE))
        for path in sorted(aside.rglob("*")):
            place = folder / path.relative_to(aside)
            if not path.is_dir():
                replace(path, place)
            elif place.is_symlink() or not place.is_dir():
                remove(place)
                place.mkdir()
    if has_weights:
        _remove_stale(folder, written)


def _go_on(card: Path, folder: Path) -> None:
    """Put what people have written on the card in `folder` into the new one."""
    try:
        existing = read_card(own_path(folder / CARD_NAME, folder))
        card.write_bytes(add_metadata(existing, read_card(card)).encode("utf-8"))
    except ValueError as error:
        logger.warning(f"{error} The card stays as it is.")
        card.unlink()


def _remove_stale(folder: Path, written: Collection[str]) -> None:
    """
    Delete what an earlier save has left, beside which the files that were `written` could not be told for the model's:
    weights under other names (shards), and those of the other kind, a whole model's or an adapter's, with their
    configuration. The base of the adapter, if it is what lies there, stays.
    """
    weights = {name for name in file_names(folder, MEAN_FILE) if name != BASE_NAME}
    whole = {name for name in weights if name.startswith("model")}
    if ADAPTER_NAME not in written:
        stale = weights | {"adapter_config.json", *_INDEX_NAMES}
    elif _is_base(folder):
        stale = weights - whole
    else:
        stale = weights | {*_INDEX_NAMES} | ({"config.json"} if whole else set())
    for name in stale - {*written}:
        remove(folder / name)


def _is_base(folder: Path) -> bool:
    """Return whether the whole model in `folder` is the one that the adapter there belongs to."""
    name = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return isinstance(name, str) and Path(name).is_dir() and Path(name).samefile(folder)
