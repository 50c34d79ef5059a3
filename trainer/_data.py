"""Image classification data: where they come from, their labels, and the way from a row to model inputs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
from PIL import Image
from transformers import BaseImageProcessor

from hf_scorevi.image_data import InputError, image_mode, image_rows, label_codes, load_file, load_folder, to_image

__all__ = ["DataArguments", "ImageTransform", "InputError", "load_data", "with_model_inputs"]


@dataclass
class DataArguments:
    """Where the images are. Exactly one source: a dataset of the Hub, folders, or files."""

    _argument_group_name: ClassVar[str] = "data"

    dataset_name: str | None = field(default=None, metadata={"help": "Dataset on the Hub, or its local copy."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that dataset."})
    train_split_name: str = field(default="train", metadata={"help": "Its split to train on."})
    validation_split_name: str | None = field(
        default=None, metadata={"help": "Its split to evaluate on; if not given, validation, else test."}
    )
    train_dir: str | None = field(default=None, metadata={"help": "Folder with one subfolder of images per class."})
    validation_dir: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    train_file: str | None = field(
        default=None,
        metadata={"help": "File (or glob) of rows: parquet, arrow, csv, json, jsonl. Images are image columns, paths "
                          "relative to the file, or arrays of pixels from 0 to 255."},
    )  # fmt: skip
    validation_file: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    image_column_name: str = field(default="image", metadata={"help": "Column of the images."})
    label_column_name: str = field(default="label", metadata={"help": "Column of the labels: class names or numbers."})
    train_val_split: float = field(
        default=0.1, metadata={"help": "Share of the training data to hold out if there are no others to evaluate on."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many random examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on so many random examples."})
    random_flip: bool = field(default=True, metadata={"help": "Mirror half of the training images."})
    random_crop: bool = field(default=True, metadata={"help": "Train on random crops, resized to the model's input."})
    min_crop_area: float = field(default=0.5, metadata={"help": "Smallest share of an image that a crop keeps."})

    def __post_init__(self) -> None:
        if not 0 <= self.train_val_split < 1:
            raise ValueError(f"train_val_split must be at least 0 and below 1, not {self.train_val_split}")
        if not 0 < self.min_crop_area <= 1:
            raise ValueError(f"min_crop_area must be above 0 and at most 1, not {self.min_crop_area}")
        for name in ("max_train_samples", "max_eval_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        sources = {
            "--dataset_name": self.dataset_name,
            "--train_dir/--validation_dir": self.train_dir or self.validation_dir,
            "--train_file/--validation_file": self.train_file or self.validation_file,
        }
        given = [flags for flags, value in sources.items() if value]
        if not given:
            raise ValueError("no data: give --dataset_name, --train_dir or --train_file")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different sources of data: give one of them")

    @property
    def folder(self) -> Path:
        """What paths in a column are relative to."""
        return Path(self.train_file or self.validation_file or ".").parent


def load_data(
    args: DataArguments, token: str | None, seed: int, need_train: bool
) -> tuple[Dataset | None, Dataset | None, list[str] | None]:
    """
    The data to train on, those to evaluate on, and the names of the classes in the first.

    If there are none to evaluate on, a random part of the training data is held out for it.
    """
    train, evaluation = (None if data is None else _check_columns(data, args) for data in _load_splits(args, token))
    if train is None and need_train:
        raise InputError("There are no data to train on: give --train_dir or --train_file, or --do_eval alone.")
    # Of all training data: a class may be missing from a part of them.
    names = _class_names(train, args.label_column_name) if train is not None and need_train else None
    if train is not None and evaluation is None and args.train_val_split > 0:
        # Whether or not this run evaluates: a later one with the same seed then meets no image that was trained on.
        parts = train.train_test_split(args.train_val_split, seed=seed)
        train, evaluation = parts["train"], parts["test"]
    return _sample(train, args.max_train_samples, seed), _sample(evaluation, args.max_eval_samples, seed), names


def _load_splits(args: DataArguments, token: str | None) -> tuple[Dataset | None, Dataset | None]:
    if args.dataset_name:
        return _load_hub(args, token)
    load: Callable[[str], Dataset] = load_folder
    train, evaluation = args.train_dir, args.validation_dir
    if not (train or evaluation):
        load, train, evaluation = load_file, args.train_file, args.validation_file
    return load(train) if train else None, load(evaluation) if evaluation else None


def _load_hub(args: DataArguments, token: str | None) -> tuple[Dataset | None, Dataset | None]:
    splits: DatasetDict = load_dataset(args.dataset_name, args.dataset_config_name, token=token)
    if args.train_split_name not in splits:
        raise InputError(
            f"{args.dataset_name} has no split {args.train_split_name!r}; it has {', '.join(splits)}. "
            "Name the one to train on with --train_split_name."
        )
    name = args.validation_split_name
    if name is None:
        name = next((n for n in ("validation", "test") if n in splits and n != args.train_split_name), None)
    elif name not in splits:
        raise InputError(
            f"{args.dataset_name} has no split {name!r}; it has {', '.join(splits)}. "
            "Name the one to evaluate on with --validation_split_name."
        )
    return splits[args.train_split_name], None if name is None else splits[name]


def _check_columns(dataset: Dataset, args: DataArguments) -> Dataset:
    """The image and label columns of `dataset` alone."""
    for flag in ("image_column_name", "label_column_name"):
        name = getattr(args, flag)
        if name not in dataset.column_names:
            raise InputError(
                f"The data have no column {name!r}; their columns are {', '.join(dataset.column_names)}. "
                f"Name the right one with --{flag}."
            )
    return image_rows(dataset, args.image_column_name, args.label_column_name)


def _class_names(train: Dataset, column: str) -> list[str]:
    """The names of the classes, in the order of their numbers."""
    feature = train.features[column]
    if isinstance(feature, ClassLabel):
        names = list(feature.names)
    else:
        values = train.unique(column)
        if not all(isinstance(value, str | int) for value in values):
            raise InputError(
                f"The label column {column!r} holds {feature.dtype} or empty values; it must hold a class name or a "
                "whole number in every row. Name the right column with --label_column_name."
            )
        names = [str(value) for value in sorted(values)]
    if len(names) < 2:
        raise InputError(f"The label column {column!r} has {len(names)} class; a classifier needs at least two.")
    return names


def _sample(dataset: Dataset | None, size: int | None, seed: int) -> Dataset | None:
    if dataset is None or size is None or size >= len(dataset):
        return dataset
    return dataset.shuffle(seed).select(range(size))  # shuffled, as many data sets come sorted by class


def with_model_inputs(
    dataset: Dataset,
    args: DataArguments,
    processor: BaseImageProcessor,
    names: list[str],
    channels: int,
    train: bool,
) -> Dataset:
    """`dataset` with rows of `pixel_values` and `labels`, made when they are asked for; augmented if `train`."""
    codes = label_codes(dataset, args.label_column_name, names, "training" if train else "validation")
    return dataset.with_transform(ImageTransform(processor, args, codes, channels, train))


@dataclass
class ImageTransform:
    """
    Rows to model inputs, as `Dataset.with_transform` calls it: batch by batch, when they are asked for.

    Everything but the augmentation is the model's own image processor.

    Args:
        processor: the model's image processor.
        args: the columns, and how to augment.
        codes: number of the class of each value in the label column.
        channels: of the model's input, 1 or 3.
        train: whether to augment.
    """

    processor: BaseImageProcessor
    args: DataArguments
    codes: dict[Any, int]
    channels: int
    train: bool

    def __post_init__(self) -> None:
        self.mode = image_mode(self.channels)
        # Processors spell their output size in many ways; one dry run knows it.
        sample = self.processor(Image.new(self.mode, (64, 64)), return_tensors="np")["pixel_values"]
        self.height, self.width = sample.shape[-2:]

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, Any]:
        images = [to_image(v, self.mode, self.args.folder) for v in batch[self.args.image_column_name]]
        options: dict[str, Any] = {}
        if self.train and self.args.random_crop:
            images = [self._crop(image) for image in images]
            options = {"do_resize": False, "do_center_crop": False}  # the crops have the right size already
        if self.train and self.args.random_flip:
            images = [_flip(image) for image in images]
        pixel_values = self.processor(images, return_tensors="pt", **options)["pixel_values"]
        return {"pixel_values": pixel_values, "labels": [self.codes[v] for v in batch[self.args.label_column_name]]}

    def _crop(self, image: Image.Image) -> Image.Image:
        """A random part of the image, its sides' ratio between 3:4 and 4:3, at the model's input size."""
        # Python's generator, because the Trainer seeds it in every worker and restores it on resume.
        area = random.uniform(self.args.min_crop_area, 1) * image.width * image.height
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width = min(image.width, math.sqrt(area * ratio))
        height = min(image.height, math.sqrt(area / ratio))
        left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
        resample = getattr(self.processor, "resample", None) or Image.Resampling.BILINEAR
        return image.resize((self.width, self.height), resample, box=(left, top, left + width, top + height))


def _flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image
