"""Saving a mean by its own library, which writes through links and over what is there: aside first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers.utils import logging

from ..errors import InputError
from .card import CARD_NAME, read_card
from .card_merging import add_metadata
from .checkpoint import MEAN_FILE, file_names
from .files import is_there, own_path, remove, replace

__all__ = ["saved_aside"]

logger = logging.get_logger(__name__)


@contextmanager
def saved_aside(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """
    A folder to save a model into, whose files then take the places of those in `folder`. Links there are replaced, not
    followed; weights of an earlier save under other names (shards) go; a card that is there stays, and what the
    library has put into the metadata of its own is added to it.

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
        written = file_names(aside, MEAN_FILE)
        for path in sorted(aside.rglob("*")):
            place = folder / path.relative_to(aside)
            if not path.is_dir():
                replace(path, place)
            elif place.is_symlink() or not place.is_dir():
                remove(place)
                place.mkdir()
    if written:
        _remove_stale(folder, written)


def _go_on(card: Path, folder: Path) -> None:
    """Put what people have written on the card in `folder` into the new one."""
    try:
        existing = read_card(own_path(folder / CARD_NAME, folder))
        card.write_bytes(add_metadata(existing, read_card(card)).encode("utf-8"))
    except ValueError as error:
        logger.warning(f"{error} The card stays as it is.")
        card.unlink()


def _remove_stale(folder: Path, written: list[str]) -> None:
    """Weights beside which those that were `written` could not be told for the model's."""
    stem = written[0].split("model")[0] + "model"
    for name in file_names(folder, MEAN_FILE):
        if name.startswith(stem) and name not in written:
            remove(folder / name)
    if written == [f"{stem}.safetensors"]:
        remove(folder / f"{stem}.safetensors.index.json")
