"""Small models and data that several tests use."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from hf_scorevi import ScoreVITrainingArguments


class Examples(Dataset):
    """Rows of named tensors, as a Trainer takes them."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {name: column[i] for name, column in self.columns.items()}

    def __getitems__(self, rows: list[int]) -> list[dict[str, Tensor]]:
        """What a DataLoader asks for: taking the rows of a batch together is many times faster."""
        columns = [column[rows].unbind() for column in self.columns.values()]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*columns, strict=True)]


def images(n: int = 24, classes: int = 3, channels: int = 1, seed: int = 0) -> Examples:
    """Noise images whose brightness tells their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    pixels = torch.randn(n, channels, 8, 8, generator=generator) + labels[:, None, None, None]
    return Examples(pixel_values=pixels, labels=labels)


def tiny_vit(seed: int = 0, **kwargs) -> ViTForImageClassification:
    """A ViT of about 3,000 weights."""
    torch.manual_seed(seed)
    settings = dict(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=3,
    )
    return ViTForImageClassification(ViTConfig(**(settings | kwargs)))


def tiny_resnet(seed: int = 0, **kwargs) -> ResNetForImageClassification:
    """A ResNet with batch normalisation."""
    torch.manual_seed(seed)
    settings = dict(num_channels=1, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=3)
    return ResNetForImageClassification(ResNetConfig(layer_type="basic", **(settings | kwargs)))


class LinearRegression(nn.Module):
    """Bayesian linear regression as a model: its loss is the mean Gaussian negative log-likelihood."""

    def __init__(self, features: int, noise_variance: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.noise_variance = noise_variance

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        prediction = x @ self.weight
        return {"loss": (prediction - labels).square().mean() / (2 * self.noise_variance), "logits": prediction}


def arguments(folder, **kwargs) -> ScoreVITrainingArguments:
    """Quiet CPU arguments."""
    settings = dict(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        dataloader_pin_memory=False,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        eval_num_samples=4,
    )
    return ScoreVITrainingArguments(**(settings | kwargs))
