"""The configuration of Koopa."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

__all__ = ["KoopaConfig"]


@strict
class KoopaConfig(PreTrainedConfig):
    """
    The settings of a Koopa model. L is the context length, S the prediction length, C the number of channels.

    ```python
    mask = fit_mask_spectrum(train_series, context_length=96)
    model = KoopaForPrediction(KoopaConfig(input_size=7, context_length=96, prediction_length=48, mask_spectrum=mask))
    ```

    Args:
        input_size: C.
        context_length: L, time steps that a forecast is made from.
        prediction_length: S, time steps to forecast.
        segment_length: time steps that are one state of the time-variant dynamics, fewer than L; default: S.
        dynamic_dim: the size of the Koopman embedding.
        hidden_dim: the width of the encoders' and decoders' hidden layers.
        hidden_layers: the linear layers of each encoder and decoder in all, at least 2.
        num_blocks: blocks, each of which models the residual of those before it.
        mask_spectrum: the frequencies, from 0 to L // 2, of the time-invariant part (`fit_mask_spectrum`). A model
            cannot be built without.
        dropout: after each hidden layer.

    Raises:
        ValueError: a size out of range, a segment as long as the context, or a frequency that the context lacks.
        StrictDataclassFieldValidationError: a value of another type.
    """

    model_type = "koopa"
    loss: ClassVar[str] = "mse"  # as the configurations of transformers' forecasters call it

    input_size: int = 1
    context_length: int = 96
    prediction_length: int = 48
    segment_length: int | None = None
    dynamic_dim: int = 128
    hidden_dim: int = 64
    hidden_layers: int = 2
    num_blocks: int = 3
    mask_spectrum: list[int] | None = None
    dropout: float | int = 0.05

    def __post_init__(self, **kwargs: Any) -> None:
        if self.segment_length is None:
            self.segment_length = self.prediction_length
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, not {value}.")
        if self.segment_length >= self.context_length:  # type: ignore[operator]
            raise ValueError(
                f"segment_length ({self.segment_length}, by default the prediction_length) must be less than the "
                f"context_length ({self.context_length}): the dynamics are fitted to the steps from one segment of "
                "the context to the next."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, not {self.dropout}.")
        highest = self.context_length // 2
        wrong = [k for k in self.mask_spectrum or [] if not 0 <= k <= highest]
        if wrong:
            raise ValueError(
                f"mask_spectrum has {wrong}, but a context_length of {self.context_length} has the frequencies 0 to "
                f"{highest}. Fit the mask at this context length (`fit_mask_spectrum`)."
            )


_LEAST = {
    "input_size": 1,
    "context_length": 2,
    "prediction_length": 1,
    "segment_length": 1,
    "dynamic_dim": 1,
    "hidden_dim": 1,
    "hidden_layers": 2,
    "num_blocks": 1,
}
