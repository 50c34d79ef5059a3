"""Numbers as programs and countries write them: 1234.5, 1234,5, 1,234.5, 1.234,5."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from ..errors import InputError

__all__ = ["find_decimal", "is_number", "to_numbers"]


def _pattern(decimal: str) -> str:
    """Return an expression for numbers with this decimal sign, whose digits may be grouped in threes."""
    mark = "," if decimal == "." else r".\u00a0\u202f "
    whole = rf"\d+|[1-9]\d{{0,2}}(?:(?P<mark>[{mark}'\u2019])\d{{3}}(?:(?P=mark)\d{{3}})*)"
    return rf"[+-]?(?=\D?\d)(?:{whole})?(?:[{decimal}]\d*)?(?:[eE][+-]?\d+)?"


_PATTERNS = {decimal: re.compile(_pattern(decimal)) for decimal in ".,"}
_WORDS = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)


def is_number(text: str) -> bool:
    """Return whether this is a number with either decimal sign."""
    text = text.strip()
    return any(pattern.fullmatch(text) for pattern in _PATTERNS.values()) or bool(_WORDS.fullmatch(text))


def find_decimal(texts: Iterable[str]) -> str:
    """
    Find the decimal sign of these numbers; other texts are ignored.

    Raises:
        InputError: they have both signs; or a number such as 1.234 could be 1234, and no other number decides it.
    """
    seen: dict[str, str] = {}
    unclear = None
    for text in texts:
        text = text.strip()
        fits = [decimal for decimal, pattern in _PATTERNS.items() if pattern.fullmatch(text)]
        if len(fits) == 1:
            seen.setdefault(fits[0], text)
        elif fits and unclear is None and ("." in text or "," in text):
            unclear = text
    if len(seen) == 2:
        raise InputError(
            f"The numbers are not written alike: {seen['.']} has a decimal point, {seen[',']} a decimal comma. Write "
            "them alike, or say which is right with decimal ('.' or ','), and the others will be named."
        )
    if not seen and unclear is not None:
        other = unclear.replace(",", ".") if "," in unclear else unclear
        raise InputError(
            f"The number {unclear} may be {other} or {re.sub('[.,]', '', unclear)}, and no other tells: which sign "
            "is the decimal one? Say it with decimal ('.' or ',')."
        )
    return next(iter(seen), ".")


def to_numbers(texts: pd.Series, decimal: str) -> pd.Series:
    """Convert texts to float64; NaN where there is no number with this decimal sign."""
    texts = texts.astype("str").str.strip()
    found = pd.Series(float("nan"), texts.index, dtype="float64", name=texts.name)
    fits = texts.str.fullmatch(_PATTERNS[decimal].pattern).fillna(False).astype(bool)
    plain = texts[fits].str.replace(rf"[^0-9{decimal}eE+-]", "", regex=True).str.replace(decimal, ".", regex=False)
    found[fits] = plain.astype("float64")
    words = texts.str.fullmatch(_WORDS.pattern, case=False).fillna(False).astype(bool)
    found[words] = texts[words].astype("float64")
    return found
