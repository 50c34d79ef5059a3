"""Chronological splits: the past to train on, then validation, then test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Splits", "chronological_splits", "ett_rows", "fraction_rows"]


class Splits(NamedTuple):
    """Slices of a series for each part; validation and test begin with the context of their first window."""

    train: slice
    validation: slice
    test: slice


def fraction_rows(length: int, fractions: Sequence[float] = (0.7, 0.1, 0.2)) -> tuple[int, int, int]:
    """
    Return the numbers of rows of training, validation and test. Training and test are rounded down, as in the
    literature (Informer, Autoformer and later papers), and validation has the remaining rows.

    Args:
        length: of the series.
        fractions: of training, validation and test.

    Raises:
        ValueError: not three fractions of at least 0 with the sum 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"The fractions of training, validation and test must be three numbers with the sum 1, not {fractions}."
        )
    # 0.7 · 10 is a little less than 7 in binary.
    train, test = (int(length * fraction + 1e-9) for fraction in (fractions[0], fractions[2]))
    return train, length - train - test, test


def ett_rows(length: int, steps_per_hour: int = 1) -> tuple[int, int, int]:
    """
    Return the numbers of rows of training, validation and test by the convention for the ETT data: 12, 4 and 4 months
    of 30 days. The rows after them are unused.

    Args:
        length: of the series.
        steps_per_hour: 1 for ETTh, 4 for ETTm.

    Raises:
        ValueError: the series is shorter than that.
    """
    train, validation, test = (months * 30 * 24 * steps_per_hour for months in (12, 4, 4))
    if length < train + validation + test:
        raise ValueError(
            f"The series has {length} rows, fewer than the {train + validation + test} of the ETT split (20 months of "
            f"30 days at {steps_per_hour} rows an hour). Split it by fractions."
        )
    return train, validation, test


def chronological_splits(rows: Sequence[int], context_length: int) -> Splits:
    """
    Split a series into training, validation and test, in this order. Validation and test begin `context_length` rows
    early, with the past of their first window, so that all of their own rows are forecast, and no others.

    Args:
        rows: numbers of rows of training, validation and test (`fraction_rows`, `ett_rows`); the last two may be 0.
        context_length: L, the number of past time steps that the model needs (`past_length`).

    Raises:
        ValueError: not three counts, or a training part that is shorter than the context.
    """
    if len(rows) != 3 or min(rows) < 0 or rows[0] < 1:
        raise ValueError(
            "rows must be those of training (at least 1), validation and test, three whole numbers, not "
            f"{tuple(rows)}."
        )
    train, validation, test = rows
    if train < context_length:
        raise ValueError(
            f"The training part has {train} rows, fewer than the context_length {context_length}. Give a longer "
            "series, a larger training part, or a shorter context."
        )
    middle, end = train + validation, train + validation + test
    return Splits(slice(0, train), slice(train - context_length, middle), slice(middle - context_length, end))
