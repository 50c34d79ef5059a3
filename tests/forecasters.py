"""Small forecasters, and a series in units of its own, that several tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import (
    AutoformerConfig,
    AutoformerForPrediction,
    InformerConfig,
    InformerForPrediction,
    PatchTSMixerConfig,
    PatchTSMixerForPrediction,
    PatchTSTConfig,
    PatchTSTForPrediction,
    TimeSeriesTransformerConfig,
    TimeSeriesTransformerForPrediction,
)

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.hub import StoredPosterior
from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction
from hf_scorevi.posterior import Posterior, select_parameters
from hf_scorevi.time_series import SeriesProcessor, windows_for
from tests.tiny_models import arguments

CONTEXT, HORIZON = 16, 6
CHANNELS = ["load (MW)", "temperature (°C)"]


def series(steps: int = 120, channels: int = 2, frequency: str = "h") -> pd.DataFrame:
    """Noisy waves around 1000 and 10, with deviations about 200 and 3."""
    random = np.random.default_rng(0)
    time = np.arange(steps)[:, None]
    waves = np.sin(2 * np.pi * time / [8, 12]) + 0.2 * random.normal(size=(steps, 2))
    index = pd.date_range("2024-01-01", periods=steps, freq=frequency)
    return pd.DataFrame(waves * [300, 4] + [1000, 10], index, CHANNELS).iloc[:, :channels]


def processor_of(frame: pd.DataFrame, frequency: str | None = "h") -> SeriesProcessor:
    return SeriesProcessor.fit(frame, frequency=frequency)


def tiny_koopa(channels: int = 2, **settings: Any) -> KoopaForPrediction:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dynamic_dim": 6, "hidden_dim": 8, "num_blocks": 1, "mask_spectrum": [1, 2]}
    lengths = {"input_size": channels, "context_length": CONTEXT, "prediction_length": HORIZON}
    return KoopaForPrediction(KoopaConfig(**(lengths | sizes | settings)))


def tiny_patchtst(channels: int = 2, kind: Any = PatchTSTForPrediction, **settings: Any) -> Any:
    """A PatchTST, or one with another head (`kind`)."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "patch_length": 4,
        "patch_stride": 4,
        "d_model": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "ffn_dim": 8,
    }
    lengths = {"num_input_channels": channels, "context_length": CONTEXT, "prediction_length": HORIZON}
    return kind(PatchTSTConfig(**(lengths | sizes | settings)))


def tiny_mixer(channels: int = 2, kind: Any = PatchTSMixerForPrediction, **settings: Any) -> Any:
    """A PatchTSMixer, or one with another head (`kind`)."""
    torch.manual_seed(0)
    sizes = {"patch_length": 4, "patch_stride": 4, "d_model": 8, "num_layers": 1}
    lengths = {"num_input_channels": channels, "context_length": CONTEXT, "prediction_length": HORIZON}
    return kind(PatchTSMixerConfig(**(lengths | sizes | settings)))


def tiny_transformer(channels: int = 2, **settings: Any) -> TimeSeriesTransformerForPrediction:
    """Its head models a distribution, and it takes lagged values and features of the calendar."""
    return _autoregressive(TimeSeriesTransformerForPrediction, TimeSeriesTransformerConfig, channels, settings)


def tiny_informer(channels: int = 2, **settings: Any) -> InformerForPrediction:
    """With samples of its keys so large that attention does not depend on them."""
    settings = {"sampling_factor": 100} | settings
    return _autoregressive(InformerForPrediction, InformerConfig, channels, settings)


def tiny_autoformer(channels: int = 2, **settings: Any) -> AutoformerForPrediction:
    settings = {"moving_average": 5, "label_length": 4} | settings
    return _autoregressive(AutoformerForPrediction, AutoformerConfig, channels, settings)


def _autoregressive(kind: Any, config: Any, channels: int, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "d_model": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 8,
        "decoder_ffn_dim": 8,
        "lags_sequence": [1, 3],
        "num_time_features": 4,
        "num_parallel_samples": 7,
    }
    lengths = {"input_size": channels, "context_length": CONTEXT, "prediction_length": HORIZON}
    return kind(config(**(lengths | sizes | settings)))


def bayesian(model: nn.Module, noise_variance: Any = 0.04, target: str | list[str] = "trainable") -> BayesianModel:
    """With a posterior that shows; `None` for a head that models a distribution."""
    config = PosteriorConfig(target=target)
    posterior = Posterior.initialise(select_parameters(model, config.target), config)
    for _, _, precision in posterior.state():
        precision.fill_(100.0)
    likelihood = {"kind": "nll"} if noise_variance is None else {"kind": "gaussian", "noise_variance": noise_variance}
    return BayesianModel(model, posterior, StoredPosterior(config, 100, 1.0, likelihood))


def trained(model: nn.Module, folder: Path, config: PosteriorConfig | None = None, **settings: Any) -> ScoreVITrainer:
    """After a few steps on the first 90 rows of the series, evaluated on the rest."""
    frame = series()
    processor = processor_of(frame[:90])
    windows = [
        windows_for(model.config, processor.standardize(part))  # type: ignore[arg-type]
        for part in (frame[:90], frame[90:])
    ]
    trainer = ScoreVITrainer(
        model=model,  # type: ignore[arg-type]
        args=arguments(folder, **({"max_steps": 6} | settings)),
        train_dataset=windows[0],
        eval_dataset=windows[1],
        processing_class=processor,
        posterior_config=config,
    )
    trainer.train()
    return trainer
