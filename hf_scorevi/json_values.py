"""Checks of untrusted values from JSON. The ValueError of each names the field and the value."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

__all__ = [
    "POSITIVE",
    "is_number",
    "is_whole",
    "json_flag",
    "json_list",
    "json_number",
    "json_object",
    "json_text",
    "json_whole",
    "short",
]

POSITIVE = math.ulp(0.0)  # the smallest number above zero, as a lower bound
_MAX_TEXT = 200
_SHOWN = 60  # characters of a value in a message


def short(value: object, most: int = 300) -> str:
    """Return a value, or an error about one, as printable text on one line of at most `most` characters."""
    try:
        text = " ".join(str(value).split()) if isinstance(value, BaseException) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or deeply nested lists
        return "a value too long to show"
    text = "".join(c if c.isprintable() else "�" for c in text[: most + 1])
    return text if len(text) <= most else text[:most] + "…"


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Return whether `value` is a finite number from `least` to `most`. A boolean is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max and least <= value <= most


def is_whole(value: Any, least: int = 0, most: int = 2**63 - 1) -> bool:
    """Return whether `value` is an int from `least` to `most`. A boolean is not one."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def json_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number from `least` to `most` as a float."""
    if not is_number(value, least, most):
        raise ValueError(f"{name} must be a finite number{_range(least, most)}, not {short(value, _SHOWN)}")
    return float(value)


def json_whole(name: str, value: Any, least: int = 0, most: int = 2**63 - 1) -> int:
    """Return a whole number from `least` to `most`."""
    if not is_whole(value, least, most):
        raise ValueError(f"{name} must be a whole number{_range(least, most)}, not {short(value, _SHOWN)}")
    return value


def json_flag(name: str, value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {short(value, _SHOWN)}")
    return value


def json_text(name: str, value: Any) -> str:
    """Return a line of 1 to 200 printable characters."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value.strip()) <= len(value) <= _MAX_TEXT:
        raise ValueError(f"{name} must be a line of 1 to {_MAX_TEXT} characters, not {short(value, _SHOWN)}")
    return value


def json_list(name: str, value: Any, least: int = 0, most: int = sys.maxsize) -> list[Any]:
    """Return a list of `least` to `most` entries."""
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {short(value, _SHOWN)}")
    if not least <= len(value) <= most:
        length = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"{name} must be a list of {length} entries, not of {len(value)}")
    return value


def json_object(name: str, value: Any, required: Iterable[str] = ()) -> dict[str, Any]:
    """Return an object that has the `required` keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, not {short(value, _SHOWN)}")
    for key in required:
        if key not in value:
            raise ValueError(f"{key!r} is missing in {name}")
    return value


def _range(least: float, most: float) -> str:
    if most == math.inf:
        return "" if least == -math.inf else " above 0" if least == POSITIVE else f" of at least {least:g}"
    return f" from {least:g} to {most:g}"
