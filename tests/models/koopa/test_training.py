"""Koopa in the Trainer of transformers."""

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from hf_scorevi import ScoreVITrainer
from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, fit_mask_spectrum
from tests.tiny_models import arguments

CONTEXT, HORIZON = 24, 12


class Windows(Dataset):
    def __init__(self, series):
        self.series = series

    def __len__(self):
        return len(self.series) - CONTEXT - HORIZON + 1

    def __getitem__(self, start):
        past, future = self.series[start : start + CONTEXT + HORIZON].split([CONTEXT, HORIZON])
        return {"past_values": past, "future_values": future}


def test_learns_a_seasonal_series(tmp_path):
    set_seed(0)
    time = torch.arange(600.0)[:, None]
    waves = torch.sin(2 * torch.pi * time / torch.tensor([12.0, 8.0])) * torch.tensor([1.0, 1.5])
    series = waves + 0.1 * torch.randn(600, 2)
    train, held_out = series[:500], series[500:]
    mask = fit_mask_spectrum(train, CONTEXT)
    assert mask == [2, 3]  # 24/12 and 24/8 periods a window
    config = KoopaConfig(
        input_size=2,
        context_length=CONTEXT,
        prediction_length=HORIZON,
        dynamic_dim=16,
        hidden_dim=32,
        num_blocks=2,
        mask_spectrum=mask,
    )
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=8,
        learning_rate=5e-3,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        label_names=["future_values"],
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        KoopaForPrediction(config), arguments, train_dataset=Windows(train), eval_dataset=Windows(held_out)
    )
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    of_the_mean = (held_out - train.mean(0)).square().mean().item()
    assert of_the_mean > 0.7
    assert 0.01 < loss < 0.05  # the noise has the variance 0.01


def test_its_squared_error_is_a_gaussian_likelihood_with_learned_noise(tmp_path):
    """Each window of this data set counts in full."""
    series = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    config = KoopaConfig(
        input_size=2,
        context_length=CONTEXT,
        prediction_length=HORIZON,
        dynamic_dim=4,
        hidden_dim=4,
        mask_spectrum=[0],
    )
    set_seed(0)
    trainer = ScoreVITrainer(
        KoopaForPrediction(config), arguments(tmp_path, max_steps=3), train_dataset=Windows(series)
    )
    trainer.train()
    assert trainer.likelihood.kind == "gaussian"
    assert trainer.likelihood.num_data == (60 - CONTEXT - HORIZON + 1) * HORIZON * 2
    assert 0.5 < trainer.likelihood.noise.value.item() < 5  # white noise of variance one, forecast badly
    assert trainer.likelihood.predictive_noise.variance.shape == (HORIZON, 1)
    assert "loss" not in config.to_dict()
