"""
Koopa, a forecaster with Koopman operators.

Source: Liu et al., "Koopa: Learning Non-stationary Time Series Dynamics with Koopman Predictors", NeurIPS 2023 (arXiv
2305.18803); the original is github.com/thuml/Koopa (MIT). Written afresh, after a description of it.
"""

from .configuration_koopa import KoopaConfig
from .conversion import from_original_state_dict
from .mask_spectrum import fit_mask_spectrum
from .modeling_koopa import (
    KoopaForPrediction,
    KoopaForPredictionOutput,
    KoopaModel,
    KoopaModelOutput,
    KoopaPreTrainedModel,
)

__all__ = [
    "KoopaConfig",
    "KoopaForPrediction",
    "KoopaForPredictionOutput",
    "KoopaModel",
    "KoopaModelOutput",
    "KoopaPreTrainedModel",
    "fit_mask_spectrum",
    "from_original_state_dict",
]
