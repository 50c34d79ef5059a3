"""A local Hub that this process works with, a checkpoint, and data to measure it on."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from transformers import ViTImageProcessorPil

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from tests.cli.helpers import LABELS, NAMES
from tests.hub_server import HubServer, online
from tests.pictures import CLASSES, picture, png
from tests.tiny_models import Examples, arguments, tiny_vit


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture(autouse=True)
def client(hub: HubServer, tmp_path: Path) -> Iterator[None]:
    with online(hub, tmp_path / "home"):
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the pictures with its image processor, as the trainer saves it."""
    folder, processor = tmp_path_factory.mktemp("trained"), ViTImageProcessorPil(size={"height": 8, "width": 8})
    pixels = processor([picture(i % 3, i) for i in range(24)], return_tensors="pt")["pixel_values"]
    trainer = ScoreVITrainer(
        tiny_vit(num_channels=3, **NAMES),
        arguments(folder, max_steps=12, learning_rate=1e-2),
        train_dataset=Examples(pixel_values=pixels, labels=torch.arange(24) % 3),
        posterior_config=PosteriorConfig(init_std=0.1),
        processing_class=processor,
    )
    trainer.train()
    trainer.save_model()
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(trained, tmp_path / "pets"))


@pytest.fixture
def data(hub: HubServer) -> str:
    """A data set of the Hub that numbers the classes in another order than the model."""
    names = ["fox", "dog", "cat"]
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    rows = [
        {"image": {"bytes": png(picture(label, i)), "path": None}, "label": names.index(CLASSES[label])}
        for i, label in enumerate(LABELS)
    ]
    file = io.BytesIO()
    Dataset.from_list(rows, features=features).to_parquet(file)
    hub.commit("user/data", {"data/test-00000.parquet": file.getvalue()}, kind="dataset")
    return "user/data"
