"""Values of a series from arrays, tensors and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

__all__ = ["refuse_non_finite", "to_array", "to_columns"]


def to_array(values: Any) -> tuple[np.ndarray, list[str] | None]:
    """Return an array, tensor, DataFrame or Series as a float64 array, and the names of a table's columns."""
    names = None
    if isinstance(values, pd.DataFrame):
        names = [str(name) for name in values.columns]
        wrong = [name for name, kind in zip(names, values.dtypes, strict=True) if not _is_number(kind)]
        if wrong:
            raise ValueError(f"These columns are not numeric: {', '.join(wrong)}. Leave them out, or convert them.")
    elif isinstance(values, pd.Series):
        names = [str(values.name)]
    elif isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64), names


def to_columns(values: Any) -> tuple[np.ndarray, list[str] | None]:
    """Return values like `to_array`, (T, C) or (T,) of a single channel, with the shape (T, C)."""
    array, names = to_array(values)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"values must have the shape (time steps, channels), not {array.shape}.")
    return array, names


def _is_number(kind: Any) -> bool:
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)


def refuse_non_finite(values: np.ndarray, channels: Sequence[str] | None = None) -> None:
    """
    Refuse values, (T, C) or (B, T, C), that are NaN or infinite.

    Raises:
        ValueError: there is one; the message has the place of the first.
    """
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    *series, step, channel = (int(i) for i in np.argwhere(bad)[0])
    name = repr(channels[channel]) if channels is not None else str(channel)
    place = f" of series {series[0]}" if series else ""
    raise ValueError(
        f"The series has {int(bad.sum())} values that are NaN or infinite, the first in channel {name} at time step "
        f"{step}{place}. Fill them in (read_table(..., missing='ffill') or 'interpolate'), leave the channel out, or "
        "take the rows after the gap."
    )
