"""Batches of rows from a tokenizer, a feature extractor or an image processor, made as the Trainer makes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    SequenceFeatureExtractor,
    default_data_collator,
)

__all__ = ["Collator"]


class Collator:
    """
    Make a batch of a list of rows.

    Args:
        processing_class: the tokenizer or feature extractor by which rows of unlike length are padded; others, and
            `None`, leave rows to be stacked, which have to be of one shape.
        names: the columns that are taken; `None` for all.
        by_token: whether labels are one a token, and padded too.
    """

    def __init__(
        self, processing_class: Any = None, names: Collection[str] | None = None, by_token: bool = False
    ) -> None:
        self._names = names
        self._collate: Any = default_data_collator
        if isinstance(processing_class, PreTrainedTokenizerBase) and by_token:
            self._collate = DataCollatorForTokenClassification(processing_class)
        elif isinstance(processing_class, PreTrainedTokenizerBase | SequenceFeatureExtractor):
            self._collate = DataCollatorWithPadding(processing_class)  # type: ignore[arg-type]

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        if not isinstance(rows[0], Mapping) and not hasattr(rows[0], "__dict__"):
            raise TypeError(
                f"A row is a {type(rows[0]).__name__}, not a dictionary of inputs and labels: give a data_collator "
                "that makes such a dictionary of a list of rows."
            )
        if self._names is not None and isinstance(rows[0], Mapping):
            rows = [{name: value for name, value in row.items() if name in self._names} for row in rows]
        return dict(self._collate(rows))
