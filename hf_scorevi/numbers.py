"""Checks of numbers that a user passes, and their conversion to Python's types, which JSON can store."""

from __future__ import annotations

import math
from typing import Any

from .errors import InputError
from .json_values import short

__all__ = ["MOST_EXACT", "plain", "real_number", "whole_number"]

# Up to here float64 holds every whole number exactly, so any reader of JSON restores it.
MOST_EXACT = 2**53


def plain(value: Any) -> Any:
    """Return a numpy or torch scalar as a Python number; return everything else unchanged."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def whole_number(name: str, value: Any, least: int = 1, most: int = MOST_EXACT, otherwise: str = "") -> int:
    """
    Return `value` as an int; text that reads as a whole number counts, as from a command line.

    Args:
        otherwise: what else is allowed, for the message: " or 'auto'".

    Raises:
        InputError: it is no whole number from `least` to `most`; the message begins with `name`.
    """
    found = _number(value)
    if found is None or found != math.floor(found) or not least <= found <= most:
        beyond = found is not None and found > most
        bound = f" and at most {most:,}" if beyond else ""
        raise InputError(
            f"{name} must be a whole number of at least {least}{bound}{otherwise}, not {short(value, 60)}."
        )
    return int(found)


def real_number(name: str, value: Any, least: float, most: float, otherwise: str = "") -> float:
    """
    Return `value` as a float; text that reads as a number counts, as from a command line.

    Raises:
        InputError: it is no number from `least`, which for a small positive one means positive, to `most`; the message
            begins with `name`.
    """
    found = _number(value)
    if found is None or not least <= found <= most:
        sort = "a positive number" if least > 0 else "a number that is not negative"
        far = found is not None and (found > most or 0 < found < least)
        bound = f" between {least:g} and {most:g}" if far and least > 0 else f" of at most {most:g}" if far else ""
        raise InputError(f"{name} must be {sort}{bound}{otherwise}, not {short(value, 60)}.")
    return float(found)


def _number(value: Any) -> int | float | None:
    """Return a finite number, or `None` for anything else, booleans included."""
    value = plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
