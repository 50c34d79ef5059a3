"""The tasks of the calibration benchmark: images, labels, networks, and their pretraining without labels."""

import gzip
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PreTrainedConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    ViTForImageClassification,
    set_seed,
)

Bytes = npt.NDArray[np.uint8]
NUM_CLASSES = 10
EVAL_BATCH = 500  # images
QUIET: dict[str, Any] = {
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
MNIST_HEADER = 16  # bytes before the pixels


class Images(Dataset):
    """Images as a Trainer takes them: `pixel_values` (C, H, W), mean about 0 and standard deviation about 1, `labels`.

    Args:
        images: (N, C, H, W), in color or gray.
        labels: (N,).
    """

    def __init__(self, images: Bytes, labels: npt.NDArray[np.int64]) -> None:
        mean, std = (0.5, 0.25) if images.shape[1] == 3 else (0.29, 0.35)
        self.pixel_values = (torch.from_numpy(images) / 255 - mean) / std
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixel_values[i], "labels": self.labels[i]}


class Rotations(Images):
    """Each image four times, turned by 0, 90, 180 and 270 degrees, which is its label.

    Source: Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018 (arXiv
    1803.07728).
    """

    def __len__(self) -> int:
        return 4 * len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        index, turns = divmod(i, 4)
        return {"pixel_values": self.pixel_values[index].rot90(turns, (1, 2)), "labels": torch.tensor(turns)}


@dataclass(frozen=True)
class Data:
    """Arrays of one task: images (N, C, H, W), labels (N,), human labels (N, K) as probabilities."""

    pool: Bytes
    pool_labels: npt.NDArray[np.int64]
    test: Bytes
    test_labels: npt.NDArray[np.int64]
    human: npt.NDArray[np.float64] | None = None
    others: Bytes | None = None  # from another distribution, as many as `test` or not


@dataclass(frozen=True)
class Task:
    """What is trained on what. Numbers of labels are of all classes together."""

    title: str
    load: Callable[[Path], Data]
    config: PreTrainedConfig
    num_train: int
    num_validation: int
    batch_size: int
    gradient_evaluations: int
    pretraining_steps: int
    learning_rates: tuple[float, ...]

    def draw(self, data: Data, seed: int) -> tuple[Images, Images]:
        """Labelled images for training and for validation, apart, with as many of each class."""
        order = np.random.default_rng(seed).permutation(len(data.pool_labels))
        by_class = [order[data.pool_labels[order] == k] for k in range(NUM_CLASSES)]
        n, m = self.num_train // NUM_CLASSES, self.num_validation // NUM_CLASSES
        parts = [np.concatenate([found[a:b] for found in by_class]) for a, b in ((0, n), (n, n + m))]
        train, validation = (Images(data.pool[part], data.pool_labels[part]) for part in parts)
        return train, validation


def load_cifar10(data_dir: Path) -> Data:
    """30,000 + 5,000 images as JPEG, and how often people named each class for the latter (CIFAR-10H)."""
    arrays = {}
    for split in ("train", "test"):
        found = np.load(data_dir / "cifar10" / f"{split}.npz")
        data, offsets = found["jpeg"].tobytes(), found["offset"]
        images = [np.asarray(Image.open(io.BytesIO(data[a:b]))) for a, b in itertools.pairwise(offsets)]
        arrays[split] = np.stack(images).transpose(0, 3, 1, 2).copy(), found["label"].astype(np.int64)
    counts = np.load(data_dir / "cifar10" / "cifar10h_test_counts.npz")["counts"].astype(np.float64)
    return Data(*arrays["train"], *arrays["test"], human=counts / counts.sum(1, keepdims=True))


def load_fashion_mnist(data_dir: Path) -> Data:
    """30,000 + 10,000 images, and 10,000 handwritten digits (MNIST) from another distribution."""
    found = np.load(data_dir / "fashion_mnist" / "fashion_mnist.npz")
    images, labels = ([found[f"{kind}_{split}"] for split in ("train", "test")] for kind in "xy")
    with gzip.open(data_dir / "mnist_test" / "t10k-images-idx3-ubyte.gz") as file:
        digits = np.frombuffer(file.read(), np.uint8, offset=MNIST_HEADER).reshape(-1, 1, 28, 28).copy()
    (x, x_test), (y, y_test) = images, labels
    return Data(x[:, None], y.astype(np.int64), x_test[:, None], y_test.astype(np.int64), others=digits)


def synthetic(channels: int) -> Callable[[Path], Data]:
    """Ten coarse patterns under noise, 8x8; with three channels human labels, with one channel images of noise."""

    def load(data_dir: Path) -> Data:
        random = np.random.default_rng(0)
        patterns = random.uniform(64, 192, (NUM_CLASSES, channels, 8, 8))
        labels = np.arange(600) % NUM_CLASSES
        images = (patterns[labels] + random.normal(0, 60, (600, channels, 8, 8))).clip(0, 255).astype(np.uint8)
        human = random.multinomial(50, 0.9 * np.eye(NUM_CLASSES)[labels[400:]] + 0.1 / NUM_CLASSES) / 50
        others = random.integers(0, 256, (100, channels, 8, 8)).astype(np.uint8)
        parts = images[:400], labels[:400], images[400:], labels[400:]
        return Data(*parts, human=human) if channels == 3 else Data(*parts, others=others)

    return load


def new_model(config: PreTrainedConfig) -> Any:
    """A classifier of that configuration with random weights."""
    kinds: dict[str, Any] = {"resnet": ResNetForImageClassification, "vit": ViTForImageClassification}
    return kinds[config.model_type](config)


def pretrain(task: Task, data: Data, folder: Path) -> None:
    """Learns to tell how the pool's images were turned, without their labels, and saves the body to `folder`."""
    set_seed(0)
    model = new_model(type(task.config)(**(task.config.to_diff_dict() | {"num_labels": 4})))
    args = TrainingArguments(
        str(folder),
        max_steps=task.pretraining_steps,
        learning_rate=1e-3,
        per_device_train_batch_size=64,
        **QUIET,
    )
    Trainer(model, args, train_dataset=Rotations(data.pool, data.pool_labels)).train()
    model.base_model.save_pretrained(folder)
