"""Texts to classify, or to predict numbers from: where they are, and the way from a row to model inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from datasets import ClassLabel, Dataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_scorevi.image_data import InputError, label_codes
from hf_scorevi.labelled_data import TEXT_COLUMNS, find_column, text_inputs
from trainer._model import class_names
from trainer._sources import SourceArguments

__all__ = ["DataArguments", "with_model_inputs"]


@dataclass
class DataArguments(SourceArguments):
    """Where the texts are. Exactly one source: a dataset of the Hub, or files."""

    text_column_name: str | None = field(
        default=None, metadata={"help": "Column of the texts; if not given, text or sentence."}
    )
    text_pair_column_name: str | None = field(
        default=None, metadata={"help": "Column of the second texts, where pairs are classified."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens that an input is cut to; if not given, what the model takes."}
    )
    regression: bool = field(
        default=False,
        metadata={"help": "Predict numbers. Labels with decimals always are numbers; whole ones are classes else."},
    )

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {self.max_length}")
        super().__post_init__()

    def rows(self, dataset: Dataset) -> Dataset:
        """The columns of texts and labels alone."""
        self.require(dataset, "label_column_name")
        if self.text_pair_column_name is not None:
            self.require(dataset, "text_pair_column_name")
        columns = self.texts(dataset)
        if len({*columns, self.label_column_name}) <= len(columns):
            raise InputError("Texts and labels must be in columns of their own.")
        return dataset.select_columns([*columns, self.label_column_name])

    def texts(self, dataset: Dataset) -> list[str]:
        """The columns of the texts."""
        source = self.dataset_name or self.train_file or self.validation_file or "The data"
        first = find_column(dataset, self.text_column_name, TEXT_COLUMNS, source)
        return [first] if self.text_pair_column_name is None else [first, self.text_pair_column_name]

    def class_names(self, train: Dataset) -> list[str]:
        """The names of the classes; of numbers one, that of their column."""
        feature = train.features[self.label_column_name]
        decimals = not isinstance(feature, ClassLabel) and "float" in str(getattr(feature, "dtype", ""))
        return [self.label_column_name] if self.regression or decimals else super().class_names(train)


def with_model_inputs(
    dataset: Dataset, args: DataArguments, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, train: bool
) -> Dataset:
    """`dataset` with rows of tokens and `labels`, made when they are asked for."""
    column, columns = args.label_column_name, args.texts(dataset)
    inputs = text_inputs(tokenizer, config, args.max_length)
    if config.num_labels == 1:
        label: Any = _number
    else:
        what = "training" if train else "validation"
        label = label_codes(dataset, column, class_names(config), what).__getitem__

    def transform(batch: dict[str, list[Any]]) -> dict[str, Any]:
        return inputs(*(batch[name] for name in columns)) | {"labels": [label(value) for value in batch[column]]}

    return dataset.with_transform(transform)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The label {value!r} is no number. Name the right column with --label_column_name."
        ) from error
