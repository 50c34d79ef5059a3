"""Images to classify: where they are, and the way from a row to model inputs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset
from PIL import Image
from transformers import BaseImageProcessor, PreTrainedConfig

from hf_scorevi.image_data import image_mode, image_rows, label_codes, load_folder, to_image
from trainer._model import class_names
from trainer._sources import SourceArguments

__all__ = ["DataArguments", "ImageTransform", "with_model_inputs"]


@dataclass
class DataArguments(SourceArguments):
    """Where the images are. Exactly one source: a dataset of the Hub, folders, or files."""

    train_dir: str | None = field(default=None, metadata={"help": "Folder with one subfolder of images per class."})
    validation_dir: str | None = field(default=None, metadata={"help": "The same, to evaluate on."})
    train_file: str | None = field(
        default=None,
        metadata={"help": "File (or glob) of rows: parquet, arrow, csv, json, jsonl. Images are image columns, paths "
                          "relative to the file, or arrays of pixels from 0 to 255."},
    )  # fmt: skip
    image_column_name: str = field(default="image", metadata={"help": "Column of the images."})
    random_flip: bool = field(default=True, metadata={"help": "Mirror half of the training images."})
    random_crop: bool = field(default=True, metadata={"help": "Train on random crops, resized to the model's input."})
    min_crop_area: float = field(default=0.5, metadata={"help": "Smallest share of an image that a crop keeps."})

    def __post_init__(self) -> None:
        if not 0 < self.min_crop_area <= 1:
            raise ValueError(f"min_crop_area must be above 0 and at most 1, not {self.min_crop_area}")
        super().__post_init__()

    @property
    def local(self) -> dict[str, tuple[Callable[[str], Dataset], str | None, str | None]]:
        """Folders too."""
        return {"dir": (load_folder, self.train_dir, self.validation_dir)} | super().local

    def rows(self, dataset: Dataset) -> Dataset:
        """The image and label columns alone."""
        self.require(dataset, "image_column_name", "label_column_name")
        return image_rows(dataset, self.image_column_name, self.label_column_name)


def with_model_inputs(
    dataset: Dataset, args: DataArguments, processor: BaseImageProcessor, config: PreTrainedConfig, train: bool
) -> Dataset:
    """`dataset` with rows of `pixel_values` and `labels`, made when they are asked for; augmented if `train`."""
    what = "training" if train else "validation"
    codes = label_codes(dataset, args.label_column_name, class_names(config), what)
    channels = getattr(config, "num_channels", 3)
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
