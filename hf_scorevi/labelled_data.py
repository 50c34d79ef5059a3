"""Labelled images, texts and recordings as a classifier takes them: from the Hub, a folder, or a file of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import BaseImageProcessor, FeatureExtractionMixin, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from .audio_data import load_audio_folder, to_waveform
from .hub.untrusted import short
from .image_data import (
    SUFFIXES,
    InputError,
    image_mode,
    image_rows,
    label_codes,
    load_file,
    load_folder,
    load_rows,
    to_image,
)

__all__ = [
    "LABEL_COLUMNS",
    "TEXT_COLUMNS",
    "audio_inputs",
    "find_column",
    "image_inputs",
    "load_audio",
    "load_images",
    "load_texts",
    "text_inputs",
]

logger = logging.get_logger(__name__)

LABEL_COLUMNS, TEXT_COLUMNS = ("label", "labels"), ("text", "sentence")
_FOLDERS = {"images": load_folder, "recordings": load_audio_folder}
_ENDLESS = 10**6  # tokens: a tokenizer that knows of no longest input says 10³⁰


def load_images(
    source: str,
    model_config: PreTrainedConfig,
    processor: BaseImageProcessor,
    *,
    config: str | None = None,
    split: str = "test",
    image_column: str = "image",
    label_column: str | None = None,
    max_examples: int | None = None,
    seed: int = 0,
    token: str | bool | None = None,
) -> tuple[datasets.Dataset, dict[str, str | None]]:
    """
    Load labelled images as a classifier takes them; return them with the data's names for an `Evaluation`.

    Args:
        source: data set of the Hub, folder with a subfolder of images a class, or file of rows (or glob of files).
        model_config: of the classifier, whose classes the labels are matched with by name.
        config, split: of a data set of the Hub.
        image_column, label_column: of its rows; default of the latter: `label` or `labels`.
        max_examples: at most this number of them, drawn by `seed`; it is then added to the split's name.

    Raises:
        InputError: the data, a column or a class does not exist.
    """
    data, described = _load(source, config, split, token, "images")
    label_column = find_column(data, label_column, LABEL_COLUMNS, source)
    find_column(data, image_column, (), source)
    data = image_rows(data, image_column, label_column)
    codes = _codes(data, label_column, model_config)
    data = _part(data, described, max_examples, seed)
    inputs = image_inputs(processor, model_config, Path(source).parent)

    def transform(batch: dict[str, list[Any]]) -> dict[str, Any]:
        return inputs(batch[image_column]) | {"labels": [codes[value] for value in batch[label_column]]}

    return data.with_transform(transform), described


def load_texts(
    source: str,
    model_config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: str | None = None,
    split: str = "test",
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    numbers: bool = False,
    max_examples: int | None = None,
    seed: int = 0,
    token: str | bool | None = None,
) -> tuple[datasets.Dataset, dict[str, str | None]]:
    """
    Load labelled texts, or pairs of texts, as a classifier takes them; return them with the data's names for an
    `Evaluation`. Rows have different lengths: make batches of them with `DataCollatorWithPadding(tokenizer)`. Texts
    that are longer than the model takes are cut.

    Args:
        source: data set of the Hub, or file of rows (or glob of files).
        text_column, text_pair_column, label_column: of its rows; default: `text` or `sentence`, none, and `label` or
            `labels`.
        numbers: whether the labels are numbers, of a regression, instead of classes.

    The other arguments are those of `load_images`.

    Raises:
        InputError: the data, a column or a class does not exist.
    """
    data, described = _load(source, config, split, token, "texts")
    label_column = find_column(data, label_column, LABEL_COLUMNS, source)
    columns = [find_column(data, text_column, TEXT_COLUMNS, source)]
    if text_pair_column is not None:
        columns.append(find_column(data, text_pair_column, (), source))
    if label_column in columns or len(set(columns)) < len(columns):
        raise InputError(f"Texts and labels must be in columns of their own, not in {', '.join(columns)}.")
    data = data.select_columns([*columns, label_column])
    codes = None if numbers else _codes(data, label_column, model_config)
    data = _part(data, described, max_examples, seed)
    inputs = text_inputs(tokenizer, model_config)

    def transform(batch: dict[str, list[Any]]) -> dict[str, Any]:
        labels = [_number(value) if codes is None else codes[value] for value in batch[label_column]]
        return inputs(*(batch[column] for column in columns)) | {"labels": labels}

    return data.with_transform(transform), described


def load_audio(
    source: str,
    model_config: PreTrainedConfig,
    extractor: FeatureExtractionMixin,
    *,
    config: str | None = None,
    split: str = "test",
    audio_column: str = "audio",
    label_column: str | None = None,
    max_examples: int | None = None,
    seed: int = 0,
    token: str | bool | None = None,
) -> tuple[datasets.Dataset, dict[str, str | None]]:
    """
    Load labelled recordings as a classifier takes them; return them with the data's names for an `Evaluation`. Rows
    may have different lengths: make batches of them with `DataCollatorWithPadding(extractor)`.

    Args:
        source: data set of the Hub, folder with a subfolder of audio files a class, or file of rows.
        extractor: the model's feature extractor, to whose sampling rate recordings are brought.

    The other arguments are those of `load_images`.

    Raises:
        InputError: the data, a column or a class does not exist, or a recording cannot be read.
    """
    data, described = _load(source, config, split, token, "recordings")
    label_column = find_column(data, label_column, LABEL_COLUMNS, source)
    find_column(data, audio_column, (), source)
    data = data.select_columns([audio_column, label_column])
    if isinstance(data.features[audio_column], datasets.Audio):
        data = data.cast_column(audio_column, datasets.Audio(decode=False))
    codes = _codes(data, label_column, model_config)
    data = _part(data, described, max_examples, seed)
    inputs = audio_inputs(extractor, Path(source).parent)

    def transform(batch: dict[str, list[Any]]) -> dict[str, Any]:
        return inputs(batch[audio_column]) | {"labels": [codes[value] for value in batch[label_column]]}

    return data.with_transform(transform), described


def image_inputs(
    processor: BaseImageProcessor, model_config: PreTrainedConfig, folder: Path
) -> Callable[[list[Any]], dict[str, Any]]:
    """Return a function that makes a model's inputs from images; paths are relative to `folder`."""
    mode = image_mode(getattr(model_config, "num_channels", 3))

    def inputs(values: list[Any]) -> dict[str, Any]:
        images = [to_image(value, mode, folder) for value in values]
        return {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}

    return inputs


def text_inputs(
    tokenizer: PreTrainedTokenizerBase, model_config: PreTrainedConfig, max_length: int | None = None
) -> Callable[..., dict[str, Any]]:
    """
    Return a function that makes a model's inputs from texts, or from two lists of paired texts.

    A tokenizer without a padding token, as many language models have, pads with its end of text.

    Args:
        max_length: tokens that an input is cut to; default: the limit of the tokenizer or the configuration.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    longest = max_length or tokenizer.model_max_length
    if longest > _ENDLESS:
        longest = getattr(model_config, "max_position_embeddings", None)

    def inputs(*texts: list[Any]) -> dict[str, Any]:
        odd = [value for own in texts for value in own if not isinstance(value, str)]
        if odd:
            raise InputError(f"A row holds {short(odd[0])} in the place of a text. Name the right column.")
        return dict(tokenizer(*texts, truncation=longest is not None, max_length=longest))

    return inputs


def audio_inputs(extractor: FeatureExtractionMixin, folder: Path) -> Callable[[list[Any]], dict[str, Any]]:
    """Return a function that makes a model's inputs from recordings; paths are relative to `folder`."""
    make: Any = extractor
    rate = int(make.sampling_rate)

    def inputs(values: list[Any]) -> dict[str, Any]:
        rows = [make(to_waveform(value, rate, folder), sampling_rate=rate) for value in values]
        return {name: [np.asarray(row[name][0]) for row in rows] for name in rows[0]}

    return inputs


def find_column(data: datasets.Dataset, name: str | None, usual: tuple[str, ...], source: str) -> str:
    """
    Return the column called `name` or, if that is `None`, the first of the `usual` names that there is.

    Raises:
        InputError: there is none.
    """
    names = usual if name is None else (name,)
    found = next((own for own in names if own in data.column_names), None)
    if found is None:
        raise InputError(
            f"{source} has no column {' or '.join(map(repr, names))}; its columns are {', '.join(data.column_names)}. "
            "Name the right one."
        )
    return found


def _load(
    source: str, config: str | None, split: str, token: str | bool | None, what: str
) -> tuple[datasets.Dataset, dict[str, str | None]]:
    if not source:
        raise InputError("There is no data set without a name: give one of the Hub, a folder, or a file.")
    path = Path(source)
    if path.is_dir() and what in _FOLDERS:
        return _FOLDERS[what](source), {"dataset": path.resolve().name}
    if path.suffix in SUFFIXES or path.is_file():
        return load_file(source), {"dataset": path.name}
    folder = f"a folder of {what}, " if what in _FOLDERS else ""
    remedy = f"Give a data set of the Hub with its configuration and split, {folder}or a file of rows."
    data = load_rows(f"{source} cannot be loaded", remedy, source, config, split=split, token=token)
    return data, {"dataset": source, "dataset_config": config, "split": split}


def _part(
    data: datasets.Dataset, described: dict[str, str | None], max_examples: int | None, seed: int
) -> datasets.Dataset:
    if max_examples is None or max_examples >= len(data):
        return data
    part = f"{max_examples} examples drawn with seed {seed}"
    described["split"] = f"{described['split']}, {part}" if described.get("split") else part
    return data.shuffle(seed).select(range(max_examples))


def _codes(data: datasets.Dataset, column: str, config: PreTrainedConfig) -> dict[Any, int]:
    return label_codes(data, column, _class_names(config, data.features[column]), "evaluation")


def _class_names(config: PreTrainedConfig, feature: Any) -> list[str]:
    """Return the model's class names; if they are only numbers, those of the data, if there are as many."""
    id2label: dict[Any, str] = config.id2label or {}
    if not (isinstance(id2label, dict) and all(i in id2label for i in range(len(id2label)))):
        raise InputError(
            f"The model's configuration numbers its classes {short(sorted(map(str, id2label)))}, not from 0 on. Mend "
            "id2label in its config.json."
        )
    found: list[Any] = [id2label[i] for i in range(len(id2label))]
    names = [str(name) if isinstance(name, int) else name for name in found]
    numbered = names == [f"LABEL_{i}" for i in range(len(names))]
    if numbered and isinstance(feature, datasets.ClassLabel) and feature.num_classes == len(names):
        logger.warning(
            "The model does not name its classes; they are taken to be numbered as the data's are: "
            f"{', '.join(f'{i} {name}' for i, name in enumerate(feature.names[:5]))}{', …' if len(names) > 5 else ''}."
        )
        return list(feature.names)
    return names


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise InputError(f"The label {short(value)} is no number, which this model predicts. Name the right column.")
    return float(value)
