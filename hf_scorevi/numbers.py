"""Numbers that a user gives, checked, and made Python's own: numpy's and torch's cannot be written as JSON."""

from __future__ import annotations

import math
from typing import Any

from .errors import InputError
from .json_values import short

__all__ = ["MOST_EXACT", "plain", "real_number", "whole_number"]

# Up to here every whole number is one of float64 too, so that any reader of JSON gets it back.
MOST_EXACT = 2**53


def plain(value: Any) -> Any:
    """A scalar of numpy's or torch's as Python's; everything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def whole_number(name: str, value: Any, least: int = 1, most: int = MOST_EXACT, otherwise: str = "") -> int:
    """
    `value` as an int; text that reads as one counts, as from a command line.

    Args:
        otherwise: what else may be given, for the message: " or 'auto'".

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
    `value` as a float; text that reads as one counts, as from a command line.

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
    """A finite number, or `None` for anything else: a truth value is none."""
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
