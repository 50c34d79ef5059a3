"""Labelled images from a folder, a file or the Hub: the rows, the class numbers, and PIL images."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Value, load_dataset
from datasets import Image as ImageFeature
from datasets.exceptions import DatasetGenerationError, DatasetsError
from PIL import Image

from .errors import InputError

__all__ = [
    "SUFFIXES",
    "InputError",
    "image_mode",
    "image_rows",
    "label_codes",
    "load_file",
    "load_folder",
    "load_rows",
    "to_image",
]

_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".json": "json", ".jsonl": "json"}
# Suffixes of files of rows.
SUFFIXES = tuple(_BUILDERS)
_MODES = {1: "L", 3: "RGB"}


def load_rows(problem: str, remedy: str, *args: Any, **kwargs: Any) -> Dataset:
    """
    Call `datasets.load_dataset`, and raise any failure as an `InputError` with `problem`, the reason and `remedy`.
    """
    try:
        return load_dataset(*args, **kwargs)
    except (
        OSError,
        ValueError,
        RuntimeError,
        DatasetsError,
    ) as error:  # RuntimeError: the data set needs a script, which is not run
        reason = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        raise InputError(f"{problem} ({' '.join(str(reason).split()).rstrip('.')}). {remedy}") from error


def load_folder(folder: str) -> Dataset:
    """Load the images in a folder, labelled by their subfolders."""
    if not Path(folder).is_dir():
        raise InputError(f"There is no folder {folder!r} of images.")
    remedy = "Put the images of each class, of at least two, into a subfolder of its name, and none deeper."
    files = {"train": str(Path(glob.escape(folder)) / "**")}
    dataset = load_rows(f"{folder!r} has no images", remedy, "imagefolder", data_files=files, split="train")
    if "label" not in dataset.column_names:
        raise InputError(f"{folder!r} has no labels. {remedy}")
    return dataset


def load_file(file: str) -> Dataset:
    """Load the rows of a file, or of the files that match a glob."""
    builder = _BUILDERS.get(Path(file).suffix)
    if builder is None:
        raise InputError(f"{file!r} is of an unknown kind; give a file that ends in {', '.join(SUFFIXES)}.")
    if "://" not in file and not glob.glob(file):
        raise InputError(f"There is no file {file!r} of rows.")
    remedy = "Give a file with at least one."
    return load_rows(f"{file!r} has no rows", remedy, builder, data_files={"train": file}, split="train")


def image_rows(dataset: Dataset, image_column: str, label_column: str) -> Dataset:
    """Return these columns only. Image files stay encoded: `to_image` decodes them, and its errors name the file."""
    if image_column == label_column:
        raise InputError(
            f"The images and the labels cannot both be in the column {image_column!r}: name both columns."
        )
    dataset = dataset.select_columns([image_column, label_column])
    if isinstance(dataset.features[image_column], ImageFeature):
        dataset = dataset.cast_column(image_column, ImageFeature(decode=False))
    return dataset


def label_codes(dataset: Dataset, column: str, names: list[str], what: str) -> dict[Any, int]:
    """
    Return the class number of each value in the label column, looked up by the class's name.

    Whole numbers without names are class numbers already, unless the classes' names are numbers.

    Args:
        names: of the model's classes, in the order of their numbers.
        what: the data's name in the error.
    """
    feature = dataset.features[column]
    if not isinstance(feature, ClassLabel | Value):
        raise InputError(
            f"The label column {column!r} holds {type(feature).__name__} values; it must hold a class name or a whole "
            "number in every row. Name the right column."
        )
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise InputError(
            f"The model's configuration (id2label) calls a class {odd[0]!r}, which is no text. Correct it there: "
            "labels are matched with classes by their names."
        )
    number = {name: i for i, name in enumerate(names)}
    if "int" in feature.dtype and not isinstance(feature, ClassLabel) and not any(map(str.isdecimal, names)):
        number = {str(i): i for i in range(len(names))}
    codes, unknown = {}, []
    for value in dataset.unique(column):
        named = isinstance(feature, ClassLabel) and value is not None and 0 <= value < feature.num_classes
        name = feature.names[value] if named else str(value)
        codes[value] = number.get(name, -1)
        if name not in number:
            unknown.append(name)
        elif names.count(name) > 1:  # such as ImageNet's two classes "crane"
            raise InputError(
                f"The model's configuration (id2label) calls several classes {name!r}, which is a label of the {what} "
                "data: give the classes different names there."
            )
    if unknown:
        raise InputError(
            f"The {what} data have labels that are none of the model's classes: {', '.join(sorted(unknown)[:5])}. The "
            f"classes are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}. Remove those rows, call the "
            "classes alike in the data and in the model's configuration (id2label), or train on such examples."
        )
    return codes


def image_mode(channels: int) -> str:
    """Return PIL's mode of images with this number of channels."""
    if channels not in _MODES:
        raise InputError(f"The model takes images of {channels} channels; here they are gray or RGB.")
    return _MODES[channels]


def to_image(value: Any, mode: str, folder: Path) -> Image.Image:
    """
    Return an image of PIL's `mode` from a row's value: an image, its file (path or bytes), or an array of pixels.

    Args:
        value: PIL image; path, relative to `folder`; encoded bytes; `{"bytes", "path"}`; integers from 0 to 255 of
            shape (height, width), (height, width, channels) or (channels, height, width).
    """
    if isinstance(value, str):
        value = {"path": str(folder / value), "bytes": None}
    elif isinstance(value, bytes):
        value = {"path": None, "bytes": value}
    if isinstance(value, dict):
        value = _decoded(value)
    if not isinstance(value, Image.Image):
        value = _from_pixels(value)
    if value.mode in ("I", "F") or value.mode.startswith("I;"):
        raise InputError(f"An image has PIL's mode {value.mode}, more than 8 bits a channel; convert it to 8 bits.")
    return value.convert(mode)


def _decoded(file: dict[str, Any]) -> Image.Image:
    try:
        return ImageFeature().decode_example(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"The image {file.get('path') or 'of a row'} cannot be read ({error}). Mend it, or remove its row."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"A row's image has the fields {', '.join(map(str, file))}, and is neither a path nor a file's bytes. "
            "Name the right column, or remove the row."
        ) from error


def _from_pixels(value: Any) -> Image.Image:
    try:
        pixels = np.asarray(value)
    except ValueError as error:
        raise InputError("An array of pixels has rows of different lengths. Mend it, or remove its row.") from error
    if pixels.dtype.kind not in "iuf" or pixels.size == 0 or pixels.min() < 0 or pixels.max() > 255:
        raise InputError("An image is neither a picture nor an array of pixels; those are integers from 0 to 255.")
    if (pixels != pixels.astype(np.uint8)).any():
        raise InputError("An array of pixels has fractions; give integers from 0 to 255, not normalised values.")
    pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[0] in _MODES and pixels.shape[2] not in _MODES:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise InputError(
            f"An array of pixels has the shape {pixels.shape}; give (height, width), (height, width, channels) or "
            "(channels, height, width) with 1 or 3 channels."
        )
    return Image.fromarray(pixels)
