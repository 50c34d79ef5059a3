"""Small pictures of three classes: noise whose brightness tells the class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog", "fox")


def picture(label: int, seed: int) -> np.ndarray:
    """Pixels of shape (20, 24, 3)."""
    return (np.random.default_rng(seed).integers(0, 40, (20, 24, 3)) + 100 * label).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """The same as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def save_pictures(folder: Path, count: int) -> None:
    """Write `count` pictures of each class into a subfolder of its name."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for seed in range(count):
            (folder / name / f"{seed}.png").write_bytes(png(picture(label, seed)))
