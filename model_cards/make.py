"""
Make the runs whose cards lie beside this file, and their cards.

    python model_cards/make.py                                      # with data from the Hub and from GitHub
    python model_cards/make.py --data_dir path/to/data              # or from fashion_mnist.npz and ETTh1.csv in there
    python model_cards/make.py --only vit-digits-bayesian           # no data to fetch

Whole checkpoints go to outputs/model_cards; what describes them, without the weights, is copied beside this file.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ResNetConfig, ResNetForImageClassification, set_seed

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples import demo
from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, fit_mask_spectrum
from hf_scorevi.plots import fan_chart
from hf_scorevi.time_series import SeriesProcessor, chronological_splits, ett_rows, read_table, windows_for

HERE = Path(__file__).parent
LABELS_A_CLASS = 200
ETTH1 = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv"
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class Images(demo.Digits):
    """Gray images of bytes as a Trainer takes them, mean 0 and standard deviation 1 over Fashion-MNIST."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.pixel_values = torch.tensor((images[:, None] / 255 - 0.2860) / 0.3530, dtype=torch.float32)
        self.labels = torch.tensor(labels.astype(np.int64))


def fashion_mnist(data_dir: Path | None) -> tuple[Images, Images]:
    """The first 200 training images of each class, and the 10,000 test images."""
    if data_dir is not None:
        arrays = np.load(data_dir / "fashion_mnist.npz")
        (x, y), test = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    else:
        import datasets

        data = datasets.load_dataset("zalando-datasets/fashion_mnist").with_format("numpy")
        (x, y), test = ((data[split]["image"][:], data[split]["label"][:]) for split in ("train", "test"))
    first = np.sort(np.concatenate([np.flatnonzero(y == k)[:LABELS_A_CLASS] for k in range(len(CLASSES))]))
    return Images(x[first], y[first]), Images(*test)


def digits(output_dir: Path, options: argparse.Namespace) -> tuple[ScoreVITrainer, dict[str, Any]]:
    """The demo's Bayesian run, seed 0."""
    trainer = demo.run_score_vi(demo.pretrain(output_dir.parent / "pretraining"), output_dir, demo.LEARNING_RATE, 0)
    return trainer, {"dataset": "the digits 5-9 of scikit-learn", "license": "apache-2.0"}


def fashion(output_dir: Path, options: argparse.Namespace) -> tuple[ScoreVITrainer, dict[str, Any]]:
    """A small ResNet from scratch, one precision a weight."""
    train, test = fashion_mnist(options.data_dir)
    set_seed(0)
    config = ResNetConfig(
        num_channels=1,
        embedding_size=32,
        hidden_sizes=[32, 64, 128],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(CLASSES)),
        label2id={name: i for i, name in enumerate(CLASSES)},
    )
    args = ScoreVITrainingArguments(
        str(output_dir),
        num_train_epochs=options.epochs,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=50,
        per_device_eval_batch_size=500,
        seed=0,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = ScoreVITrainer(
        ResNetForImageClassification(config),
        args,
        train_dataset=train,
        eval_dataset=test,
        posterior_config=PosteriorConfig(family="diagonal", prior_mean="zero"),
    )
    trainer.train()
    data = {"dataset": "Fashion-MNIST (test)", "dataset_tags": "zalando-datasets/fashion_mnist"}
    return trainer, data | {"license": "apache-2.0"}


def etth1(output_dir: Path, options: argparse.Namespace) -> tuple[ScoreVITrainer, dict[str, Any]]:
    """A Koopa that forecasts two days of hours from the four before them."""
    set_seed(0)
    files = [] if options.data_dir is None else sorted(options.data_dir.glob("ETTh1.csv*"))
    table = read_table(str(files[0]) if files else ETTH1)
    rows = ett_rows(len(table.values))
    processor = SeriesProcessor.fit(table.values[: rows[0]], table.channels, table.frequency)
    series = processor.standardize(table.values)
    config = KoopaConfig(
        input_size=len(table.channels),
        context_length=96,
        prediction_length=48,
        dynamic_dim=32,
        mask_spectrum=fit_mask_spectrum(series[: rows[0]], context_length=96),
    )
    train, _, test = chronological_splits(rows, context_length=96)
    args = ScoreVITrainingArguments(
        str(output_dir),
        num_train_epochs=min(options.epochs, 3),
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=128,
        seed=0,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = ScoreVITrainer(
        KoopaForPrediction(config),
        args,
        train_dataset=windows_for(config, series[train]),
        eval_dataset=windows_for(config, series[test]),
        processing_class=processor,
        posterior_config=PosteriorConfig(prior_mean="zero"),
    )
    trainer.train()
    trainer.save_model()
    start, middle, end = test.start, test.start + 96, test.start + 144
    past, future = table.values[start:middle], table.values[middle:end]
    forecast = processor.inverse(BayesianModel.from_pretrained(output_dir).forecast(**processor(past), seed=0))
    assert table.times is not None
    times = table.times[start:end].to_numpy()
    figure = fan_chart(forecast, past, future, channels=["HUFL", "MULL", "OT"], names=table.channels, times=times)
    figure.savefig(output_dir / "forecast.png", metadata={"Software": None})
    return trainer, {"dataset": "ETTh1 (test)", "license": "apache-2.0"}


RUNS: dict[str, tuple[Callable[..., Any], str]] = {
    "vit-digits-bayesian": (
        digits,
        "A small ViT, trained on scikit-learn's digits 0-4 (8x8 pixels) and then fine-tuned with 50 images of 5-9.",
    ),
    "resnet-fashion-mnist-bayesian": (
        fashion,
        "A small ResNet, trained from scratch on 2,000 images of Fashion-MNIST: the first 200 of each class.",
    ),
    "koopa-etth1-bayesian": (
        etth1,
        "A small Koopa, trained from scratch on twelve months of ETTh1 ([ETDataset](https://github.com/zhouhaoyi/"
        "ETDataset)): loads and oil temperature of an electricity transformer, hour by hour.",
    ),
}


def make(name: str, options: argparse.Namespace) -> None:
    """Train, measure, save, and copy what describes the run."""
    run, about = RUNS[name]
    output_dir = options.output_dir / name
    output_dir.mkdir(parents=True, exist_ok=True)
    trainer, card = run(output_dir, options)
    trainer.evaluate()
    trainer.save_model()
    command = f"python model_cards/make.py --only {name}"
    picture = "\n![A forecast, and what came](forecast.png)\n" if (output_dir / "forecast.png").is_file() else ""
    (output_dir / "README.md").write_text(
        f"# {name}\n\n{about} A demonstration of `hf_scorevi`, made by one command of its repository:\n\n"
        f"```bash\n{command}\n```\n{picture}"
    )
    trainer.create_model_card(model_name=name, **card)
    (options.cards_dir / name).mkdir(parents=True, exist_ok=True)
    for path in output_dir.iterdir():
        if path.suffix in (".md", ".png", ".json"):
            shutil.copy(path, options.cards_dir / name)
    print(f"{options.cards_dir / name / 'README.md'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RUNS, help="one of the runs; default: all")
    parser.add_argument("--data_dir", type=Path, help="folder of fashion_mnist.npz and ETTh1.csv; default: fetch them")
    parser.add_argument("--epochs", type=float, default=30, help="of the ResNet, and at most 3 of Koopa (default: 30)")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/model_cards"), help="for the checkpoints")
    parser.add_argument("--cards_dir", type=Path, default=HERE, help="for the cards")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the figures would depend on their number
    for name in [options.only] if options.only else RUNS:
        make(name, options)


if __name__ == "__main__":
    main()
