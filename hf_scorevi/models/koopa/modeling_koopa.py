"""Koopa as a transformers model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import PreTrainedModel, initialization
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_koopa import KoopaConfig
from .dynamics import fit_dynamics

__all__ = [
    "KoopaForPrediction",
    "KoopaForPredictionOutput",
    "KoopaModel",
    "KoopaModelOutput",
    "KoopaPreTrainedModel",
]

_NORM_EPS = 1e-5  # added to the variance of a window


@dataclass
class KoopaModelOutput(ModelOutput):
    """
    The outputs of `KoopaModel`; all but `loc` and `scale` are in the units of the normalised window.

    Args:
        time_invariant_outputs: (B, S, C), the forecast of the dynamics that all windows share.
        time_variant_outputs: (B, S, C), that of the dynamics fitted to this window. The forecast is the sum.
        residual: (B, L, C), the part of the context that no block reconstructs.
        loc: (B, 1, C), mean of the window.
        scale: (B, 1, C), its standard deviation.
    """

    time_invariant_outputs: Tensor | None = None
    time_variant_outputs: Tensor | None = None
    residual: Tensor | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None


@dataclass
class KoopaForPredictionOutput(ModelOutput):
    """
    The outputs of `KoopaForPrediction`.

    Args:
        loss: mean squared error over all elements, if there are `future_values`.
        prediction_outputs: (B, S, C), the forecast in the units of `past_values`.
        loc: (B, 1, C), mean of the window.
        scale: (B, 1, C), its standard deviation.
    """

    loss: Tensor | None = None
    prediction_outputs: Tensor | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None


class KoopaMLP(nn.Sequential):
    """`config.hidden_layers` linear layers, with an activation and dropout after each but the last."""

    def __init__(self, config: KoopaConfig, in_size: int, out_size: int, activation: type[nn.Module]) -> None:
        layers: list[nn.Module] = []
        for _ in range(config.hidden_layers - 1):
            layers += [nn.Linear(in_size, config.hidden_dim), activation(), nn.Dropout(config.dropout)]
            in_size = config.hidden_dim
        super().__init__(*layers, nn.Linear(in_size, out_size))


class KoopaOperator(nn.Linear):
    """The Koopman operator of one block's time-invariant dynamics, z ↦ Kz; an orthogonal matrix to begin with."""

    def __init__(self, dynamic_dim: int) -> None:
        super().__init__(dynamic_dim, dynamic_dim, bias=False)


class KoopaPreTrainedModel(PreTrainedModel):
    """The base class: configuration, initialisation, loading and saving."""

    config: KoopaConfig
    config_class = KoopaConfig
    base_model_prefix = "model"
    main_input_name = "past_values"
    input_modalities = "time"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, KoopaOperator):
            initialization.orthogonal_(module.weight)
        elif isinstance(module, nn.Linear):  # torch's own, as in the original, not transformers' normal distribution
            initialization.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = 1 / math.sqrt(module.in_features)
            initialization.uniform_(module.bias, -bound, bound)


class KoopaModel(KoopaPreTrainedModel):
    """
    The blocks of Koopa, which share their encoders and decoders. Each splits its input by frequency, forecasts both
    parts by linear dynamics of an embedding, and passes on what it could not reconstruct.

    Raises:
        ValueError: `config.mask_spectrum` is not set.

    Source: Liu et al. 2023, section 3.
    """

    def __init__(self, config: KoopaConfig) -> None:
        super().__init__(config)
        if config.mask_spectrum is None:
            raise ValueError(
                "config.mask_spectrum is not set: KoopaConfig(mask_spectrum=fit_mask_spectrum(training series, "
                "context_length), ...)."
            )
        length, horizon = config.context_length, config.prediction_length
        assert config.segment_length is not None  # the configuration has seen to it
        self.segment_length = config.segment_length
        self.padding = -length % self.segment_length
        self.steps = math.ceil(horizon / self.segment_length)
        embedding, segment = config.dynamic_dim, self.segment_length * config.input_size
        self.time_invariant_encoder = KoopaMLP(config, length, embedding, nn.ReLU)
        self.time_invariant_decoder = KoopaMLP(config, embedding, horizon, nn.ReLU)
        self.time_variant_encoder = KoopaMLP(config, segment, embedding, nn.Tanh)
        self.time_variant_decoder = KoopaMLP(config, embedding, segment, nn.Tanh)
        self.operators = nn.ModuleList(KoopaOperator(embedding) for _ in range(config.num_blocks))
        self.post_init()

    @can_return_tuple
    def forward(self, past_values: Tensor) -> KoopaModelOutput:
        """
        Forecast the future of a series.

        Args:
            past_values: (B, L, C), finite. Channels are best standardised over the training data.

        Raises:
            ValueError: another shape, or values that are NaN or infinite.
        """
        self._check(past_values)
        # The spectrum and the fit of the dynamics need float32 at least, whatever the weights are.
        values = past_values.to(torch.promote_types(self.dtype, torch.float32))
        loc = values.mean(1, keepdim=True).detach()
        scale = (values.var(1, unbiased=False, keepdim=True) + _NORM_EPS).sqrt().detach()
        residual = (values - loc) / scale
        invariant = variant = values.new_zeros(())
        for operator in self.operators:
            variant_part = self._without_mask(residual)
            invariant = invariant + self._forecast_invariant(residual - variant_part, operator)
            reconstruction, forecast = self._forecast_variant(variant_part)
            variant = variant + forecast
            residual = residual - reconstruction
        return KoopaModelOutput(
            time_invariant_outputs=invariant, time_variant_outputs=variant, residual=residual, loc=loc, scale=scale
        )

    def _without_mask(self, values: Tensor) -> Tensor:
        """(B, L, C) without the frequencies of the mask."""
        mask = torch.tensor(self.config.mask_spectrum, dtype=torch.long, device=values.device)
        spectrum = torch.fft.rfft(values, dim=1).index_fill(1, mask, 0)
        return torch.fft.irfft(spectrum, n=values.shape[1], dim=1)  # without n an odd length would lose a step

    def _forecast_invariant(self, values: Tensor, operator: nn.Module) -> Tensor:
        """(B, L, C) → (B, S, C), each channel for itself."""
        embedding = operator(self.time_invariant_encoder(values.mT.to(self.dtype)))
        return self.time_invariant_decoder(embedding).mT.to(values.dtype)

    def _forecast_variant(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L, C) → its reconstruction, (B, L, C), and the forecast, (B, S, C)."""
        batch, length, channels = values.shape
        # At the front, so that the last segment ends where the forecast begins; with the window's last values, as in
        # the original, which however cuts the reconstruction at the back.
        padded = torch.cat([values[:, length - self.padding :], values], dim=1)
        segments = padded.reshape(batch, -1, self.segment_length * channels).to(self.dtype)
        states = self.time_variant_encoder(segments).to(values.dtype)
        decoded = [
            self.time_variant_decoder(found.to(self.dtype)).to(values.dtype).reshape(batch, -1, channels)
            for found in fit_dynamics(states, self.steps)
        ]
        return decoded[0][:, self.padding :], decoded[1][:, : self.config.prediction_length]

    def _check(self, past_values: Tensor) -> None:
        length, channels = self.config.context_length, self.config.input_size
        if past_values.dim() != 3 or past_values.shape[1:] != (length, channels):
            raise ValueError(
                f"past_values must have the shape (batch, context_length {length}, input_size {channels}), not "
                f"{tuple(past_values.shape)}."
            )
        # A compiler, and torch.func over examples, cannot branch on values.
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(past_values):
            return
        if not torch.isfinite(past_values).all():
            raise ValueError("past_values has values that are NaN or infinite: fill them in, e.g. with the last ones.")


class KoopaForPrediction(KoopaPreTrainedModel):
    """
    Koopa, forecasting in the units of its input and trained on the mean squared error.

    The Trainer takes it as it is; `label_names=["future_values"]` lets it evaluate the loss.
    """

    def __init__(self, config: KoopaConfig) -> None:
        super().__init__(config)
        self.model = KoopaModel(config)
        self.post_init()

    @can_return_tuple
    def forward(self, past_values: Tensor, future_values: Tensor | None = None) -> KoopaForPredictionOutput:
        """
        Forecast the future of a series, and compute the loss if it is known.

        Args:
            past_values: (B, L, C), finite. Channels are best standardised over the training data.
            future_values: (B, S, C), to compute the loss with.

        Raises:
            ValueError: another shape, or values of the past that are NaN or infinite.
        """
        output = self.model(past_values, return_dict=True)
        prediction = (output.time_invariant_outputs + output.time_variant_outputs) * output.scale + output.loc
        loss = None
        if future_values is not None:
            if future_values.shape != prediction.shape:
                raise ValueError(
                    "future_values must have the shape (batch, prediction_length, input_size) = "
                    f"{tuple(prediction.shape)}, not {tuple(future_values.shape)}."
                )
            loss = mse_loss(prediction, future_values.to(prediction.dtype))
        return KoopaForPredictionOutput(loss=loss, prediction_outputs=prediction, loc=output.loc, scale=output.scale)
