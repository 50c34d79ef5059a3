"""A tiny ViT, folders of pictures, and flags for a short run of the program."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from transformers import ViTImageProcessorPil

from tests.pictures import save_pictures
from tests.tiny_models import tiny_vit


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ViT for two classes and RGB images, with its image processor."""
    folder = tmp_path_factory.mktemp("vit")
    tiny_vit(image_size=16, patch_size=8, num_channels=3, num_labels=2, num_hidden_layers=1).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    save_pictures(root / "train", 8)
    save_pictures(root / "val", 4)
    return root


@pytest.fixture
def quick() -> list[str]:
    """A short run."""
    flags = ["--use_cpu", "--disable_tqdm", "True", "--max_steps", "6", "--learning_rate", "1e-2"]
    return [*flags, "--save_strategy", "no", "--eval_num_samples", "2"]


@pytest.fixture
def flags(vit: str, folders: Path, tmp_path: Path, quick: list[str]) -> list[str]:
    """A short run on the image folders."""
    data = ["--train_dir", str(folders / "train"), "--validation_dir", str(folders / "val")]
    return ["--model_name_or_path", vit, "--output_dir", str(tmp_path / "out"), *data, *quick]
