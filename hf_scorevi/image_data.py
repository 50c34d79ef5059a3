"""Labelled images from a folder, a file or the Hub: rows, the numbers of their labels, and images that PIL knows."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

__all__ = ["MODES", "InputError", "label_codes", "load_file", "load_folder", "to_image"]

_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}
# PIL's, of images with so many channels.
MODES = {1: "L", 3: "RGB"}


class InputError(ValueError):
    """Something the user gave does not fit; the message says what, and what to do."""


def load_folder(folder: str | None) -> Dataset | None:
    """The images in a folder, labelled by their subfolders."""
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise InputError(f"There is no folder {folder!r} of images.")
    pattern = str(Path(folder) / "**")
    dataset = load_dataset("imagefolder", data_files={"train": pattern}, split="train")
    if "label" not in dataset.column_names:
        raise InputError(f"{folder!r} has no labels: put the images of each class into a subfolder of its name.")
    return dataset


def load_file(file: str | None) -> Dataset | None:
    """The rows of a file, or of the files that a glob names."""
    if file is None:
        return None
    builder = _BUILDERS.get(Path(file).suffix)
    if builder is None:
        raise InputError(f"{file!r} is of an unknown kind; give a file that ends in {', '.join(_BUILDERS)}.")
    if "://" not in file and not glob.glob(file):
        raise InputError(f"There is no file {file!r} of rows.")
    return load_dataset(builder, data_files={"train": file}, split="train")


def label_codes(dataset: Dataset, column: str, names: list[str], what: str) -> dict[Any, int]:
    """The class number of each value in the label column. `what` names the data in the error."""
    feature = dataset.features[column]
    number = {name: i for i, name in enumerate(names)}
    codes, unknown = {}, []
    for value in dataset.unique(column):
        named = isinstance(feature, ClassLabel) and value is not None and 0 <= value < feature.num_classes
        name = feature.names[value] if named else str(value)
        codes[value] = number.get(name, -1)
        if name not in number:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"The {what} data have labels that are none of the model's classes: {', '.join(sorted(unknown)[:5])}. The "
            f"classes are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}. Remove those rows from the "
            f"{what} data, or add such examples to the training data."
        )
    return codes


def to_image(value: Any, mode: str, folder: Path) -> Image.Image:
    """
    An image of PIL's `mode` from what a row may hold: an image, its file (path or bytes), or an array of pixels.

    Args:
        value: PIL image; path, relative to `folder`; encoded bytes; `{"bytes", "path"}`; integers from 0 to 255 of
            shape (height, width), (height, width, channels) or (channels, height, width).
    """
    if isinstance(value, str):
        value = {"path": str(folder / value), "bytes": None}
    elif isinstance(value, bytes):
        value = {"path": None, "bytes": value}
    if isinstance(value, dict):
        value = ImageFeature().decode_example(value)
    if not isinstance(value, Image.Image):
        value = _from_pixels(value)
    if value.mode in ("I", "F") or value.mode.startswith("I;"):
        raise InputError(f"An image has PIL's mode {value.mode}, more than 8 bits a channel; convert it to 8 bits.")
    return value.convert(mode)


def _from_pixels(value: Any) -> Image.Image:
    pixels = np.asarray(value)
    if pixels.dtype.kind not in "iuf" or pixels.size == 0 or pixels.min() < 0 or pixels.max() > 255:
        raise InputError("An image is neither a picture nor an array of pixels; those are integers from 0 to 255.")
    if (pixels != pixels.astype(np.uint8)).any():
        raise InputError("An array of pixels has fractions; give integers from 0 to 255, not normalised values.")
    pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[0] in MODES and pixels.shape[2] not in MODES:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise InputError(
            f"An array of pixels has the shape {pixels.shape}; give (height, width), (height, width, channels) or "
            "(channels, height, width) with 1 or 3 channels."
        )
    return Image.fromarray(pixels)
