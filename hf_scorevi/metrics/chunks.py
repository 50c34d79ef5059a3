"""Passes over large arrays of predictions a few rows at a time, so that no temporary has the size of the input.

A million predictions of a thousand classes are 4 GB in float32; one float64 copy of them would be 8 GB more.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK_ELEMENTS = 2**20  # 8 MB in float64


def row_chunks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yield slices that cover `num_rows` rows, each of about `CHUNK_ELEMENTS` elements and of one row at least."""
    step = max(1, CHUNK_ELEMENTS // num_columns)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def top_label(probabilities: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return probability and index [examples] of the most probable class; among equals the lowest index."""
    confidences = np.empty(len(probabilities), dtype=np.float64)
    predictions = np.empty(len(probabilities), dtype=np.int64)
    for rows in row_chunks(*probabilities.shape):
        predictions[rows] = probabilities[rows].argmax(axis=1)
        confidences[rows] = probabilities[rows].max(axis=1)
    return confidences, predictions
