"""The YAML at the head of a card, which may be anybody's: bounded, and without what makes much of a little text."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

__all__ = ["load_yaml"]

# Of the text, and of all texts in it together, where an alias counts as what it stands for; values likewise.
_MAX_CHARACTERS = 1 << 20
_MAX_VALUES = 50_000
_MAX_DEPTH = 50
_MAX_NUMBER = 100  # characters
# What may become a number or a date, for which the time to read it grows faster than its length.
_NUMBER = re.compile(r"[-+.]?[0-9][0-9a-fA-F_:.+xo-]*")
_TEXT = "tag:yaml.org,2002:str"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Size(NamedTuple):
    values: int
    characters: int
    depth: int


def load_yaml(text: str) -> Any:
    """
    Return what `yaml.safe_load` gives.

    Raises:
        ValueError: no YAML; too large or too deep, be it by aliases (`*name`), of which a few hundred bytes can stand
            for gigabytes; or something that holds itself.
    """
    try:
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"there are {len(text):,} characters, where at most {_MAX_CHARACTERS:,} can be right")
        _check(text)
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # its constructors raise whatever Python does
        raise ValueError(error) from error


def _check(text: str) -> None:
    """Go through the text once, before anything is made of it."""
    values = characters = 0
    anchors: dict[str, _Size | None] = {}  # none while it is not closed
    open_ones: list[tuple[str | None, int, int, int]] = []  # anchor, counts before it, and the depth inside so far
    events: Any = yaml.parse(text, Loader=_Loader)
    for event in events:
        inner = 0
        if isinstance(event, yaml.AliasEvent):
            size = anchors.get(event.anchor, _Size(0, 0, 0))  # type: ignore[arg-type]
            if size is None:
                raise ValueError(f"line {event.start_mark.line + 1}: {event.anchor} holds itself")  # type: ignore[union-attr]
            values, characters, inner = values + size.values, characters + size.characters, size.depth
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event)
            values, characters = values + 1, characters + len(event.value)
            if event.anchor:
                anchors[event.anchor] = _Size(1, len(event.value), 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, values, characters, 0))
            values += 1
            if event.anchor:
                anchors[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values_before, characters_before, depth = open_ones.pop()
            inner = depth + 1
            if anchor:
                anchors[anchor] = _Size(values - values_before, characters - characters_before, inner)
        else:
            continue
        if open_ones:
            open_ones[-1] = (*open_ones[-1][:3], max(open_ones[-1][3], inner))
        if values > _MAX_VALUES or characters > _MAX_CHARACTERS or len(open_ones) + inner > _MAX_DEPTH:
            raise ValueError(
                f"line {event.start_mark.line + 1}: with what aliases stand for there are more than {_MAX_VALUES:,} "
                f"values, {_MAX_CHARACTERS:,} characters, or {_MAX_DEPTH} within one another"
            )


def _check_number(event: Any) -> None:
    if len(event.value) > _MAX_NUMBER:
        is_number = event.implicit[0] and _NUMBER.fullmatch(event.value)
        if is_number or event.tag not in (None, "!", _TEXT):
            raise ValueError(f"line {event.start_mark.line + 1} has a number of {len(event.value):,} characters")
