"""Labelled images from folders and files, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from PIL import Image as PILImage

from hf_scorevi.image_data import InputError, image_mode, image_rows, label_codes, load_file, load_folder, to_image
from tests.pictures import CLASSES, picture, png, save_pictures


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def labelled(values: list[Any], feature: Any) -> Dataset:
    return Dataset.from_dict({"label": values}, features=Features({"label": feature}))


# Folders and files


def test_a_folder_is_labelled_by_its_subfolders_whatever_it_is_called(tmp_path: Path) -> None:
    save_pictures(tmp_path / "my [photos]*", 2)
    data = load_folder(str(tmp_path / "my [photos]*"))
    assert data.features["label"].names == list(CLASSES) and sorted(data["label"]) == [0, 0, 1, 1, 2, 2]


def test_folders_without_labelled_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save_pictures(tmp_path / "photos", 1)
    for folder, message in (
        ("gone", "There is no folder '.*gone' of images."),
        ("empty", "empty' has no images .*Put the images of each class, of at least two, into a subfolder"),
        ("photos/cat", "photos/cat' has no labels. Put the images of each class"),
    ):
        with pytest.raises(InputError, match=message):
            load_folder(str(tmp_path / folder))


def test_files_that_hold_no_rows_are_refused(tmp_path: Path) -> None:
    for name, content, message in (
        ("rows.txt", "x", r"rows.txt' is of an unknown kind; give a file that ends in .parquet, .arrow, .csv"),
        ("empty.csv", "", r"empty.csv' has no rows \(No columns to parse from file\). Give"),
        ("header.csv", "image,label\n", r"header.csv' has no rows \("),
        ("broken.json", "{", r"broken.json' has no rows \(JSON parse error"),
        ("broken.parquet", "{", r"broken.parquet' has no rows \(Parquet file size"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=message):
            load_file(str(tmp_path / name))
    with pytest.raises(InputError, match=r"There is no file '.*gone.csv' of rows"):
        load_file(str(tmp_path / "gone.csv"))


def test_a_glob_names_the_rows_of_several_files(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"part-{i}.csv").write_text(f"image,label\n{i}.png,cat\n")
    assert sorted(load_file(str(tmp_path / "part-*.csv"))["image"]) == ["0.png", "1.png", "2.png"]


# Labels


def test_labels_are_matched_by_name_not_by_number() -> None:
    data = labelled([0, 1], ClassLabel(names=["fox", "cat"]))
    assert label_codes(data, "label", list(CLASSES), "validation") == {0: 2, 1: 0}
    assert label_codes(labelled(["dog", "cat"], Value("string")), "label", list(CLASSES), "x") == {"dog": 1, "cat": 0}


def test_whole_numbers_are_class_numbers_unless_classes_are_called_by_numbers() -> None:
    numbers = labelled([2, 0, 1], Value("int64"))
    assert label_codes(numbers, "label", list(CLASSES), "validation") == {0: 0, 1: 1, 2: 2}
    assert label_codes(numbers, "label", ["2", "1", "0"], "validation") == {0: 2, 1: 1, 2: 0}
    with pytest.raises(InputError, match=r"none of the model's classes: 0, 1. The classes are 2, 3, 4"):
        label_codes(numbers, "label", ["2", "3", "4"], "validation")


@pytest.mark.parametrize(
    ("values", "feature", "message"),
    [
        (
            ["cat", "owl", "emu"],
            Value("string"),
            "none of the model's classes: emu, owl. The classes are cat, dog, fox",
        ),
        ([0, 3, -1], Value("int64"), "classes: -1, 3. "),
        ([0, -1], ClassLabel(names=list(CLASSES)), "classes: -1. "),  # as data sets hide the labels of their tests
        ([0, None], ClassLabel(names=list(CLASSES)), "classes: None. "),
        ([0.5], Value("float64"), "classes: 0.5. "),
        ([[0, 1]], Sequence(Value("int64")), "column 'label' holds .* values; it must hold a class name"),
    ],
)
def test_labels_of_no_class_are_named(values: list[Any], feature: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_codes(labelled(values, feature), "label", list(CLASSES), "evaluation")


# Images


def test_whatever_holds_an_image_is_read(tmp_path: Path) -> None:
    pixels = picture(1, 0)
    (tmp_path / "a.png").write_bytes(png(pixels))
    for value in (PILImage.fromarray(pixels), "a.png", png(pixels), pixels.tolist(), pixels.transpose(2, 0, 1)):
        assert np.array_equal(np.asarray(to_image(value, "RGB", tmp_path)), pixels)
    gray = pixels[..., 0]
    for value in (gray, gray.astype(float).tolist(), gray[None], gray[..., None], PILImage.fromarray(gray)):
        assert np.array_equal(np.asarray(to_image(value, "L", tmp_path)), gray)
    assert np.array_equal(np.asarray(to_image(gray, "RGB", tmp_path)), np.stack([gray] * 3, -1))


def test_a_column_of_images_is_decoded_by_us_and_the_others_are_left_out() -> None:
    features = Features({"image": Image(), "label": Value("int64"), "more": Value("int64")})
    row = {"image": {"bytes": png(picture(2, 0)), "path": None}, "label": 2, "more": 1}
    data = image_rows(Dataset.from_list([row], features=features), "image", "label")
    assert data.column_names == ["image", "label"]
    assert np.array_equal(np.asarray(to_image(data[0]["image"], "RGB", Path())), picture(2, 0))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((4, 4), 0.5), "fractions"),
        (np.full((4, 4), 300), "integers from 0 to 255"),
        (None, "neither a picture nor an array"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (PILImage.new("I;16", (4, 4)), "I;16"),
        ("gone.png", "The image .*gone.png cannot be read .*No such file.* Mend it, or remove its row"),
        (b"no image", "The image of a row cannot be read"),
        (png(picture(0, 0))[:400], "The image of a row cannot be read"),
        ({"bytes": None, "path": None}, "The image of a row cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        to_image(value, "RGB", tmp_path)


def test_an_image_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"of a row cannot be read .*exceeds limit of 200 pixels"):
        to_image(png(picture(0, 0)), "RGB", Path())


def test_models_take_gray_or_rgb_images() -> None:
    assert (image_mode(1), image_mode(3)) == ("L", "RGB")
    with pytest.raises(InputError, match="images of 4 channels"):
        image_mode(4)
