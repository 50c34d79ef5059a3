"""How a posterior is stored beside its mean, described on a card, pushed to the Hub and fetched from it."""

from .base_checks import check_adapter, load_base_weights
from .base_weights import BaseRecord, base_tensors, is_packed, new_tensors
from .calibration import (
    CALIBRATION_NAME,
    Evaluation,
    add_evaluation,
    read_evaluations,
    read_recalibration,
    write_evaluations,
)
from .card import CardMetadata, make_card, write_card
from .checkpoint import (
    FORMAT_VERSION,
    POSTERIOR_CONFIG_NAME,
    POSTERIOR_NAME,
    StoredPosterior,
    save_posterior,
)
from .data_names import describe_data
from .fetching import fetch_checkpoint
from .files import write_aside
from .keys import file_keys
from .loading import load_posterior, read_checkpoint
from .mean import ADAPTERS, load_mean
from .mean_weights import load_weights, require_finite, save_mean
from .model_config import read_base_config
from .network import NoAnswerError, asking
from .own_modules import whole_tensors
from .pushing import TRAINING_STATE, Part, push_checkpoint, push_error, push_figures, reason_of
from .saving import saved_aside

__all__ = [
    "ADAPTERS",
    "CALIBRATION_NAME",
    "FORMAT_VERSION",
    "POSTERIOR_CONFIG_NAME",
    "POSTERIOR_NAME",
    "TRAINING_STATE",
    "BaseRecord",
    "CardMetadata",
    "Evaluation",
    "NoAnswerError",
    "Part",
    "StoredPosterior",
    "add_evaluation",
    "asking",
    "base_tensors",
    "check_adapter",
    "describe_data",
    "fetch_checkpoint",
    "file_keys",
    "is_packed",
    "load_base_weights",
    "load_mean",
    "load_posterior",
    "load_weights",
    "make_card",
    "new_tensors",
    "push_checkpoint",
    "push_error",
    "push_figures",
    "read_base_config",
    "read_checkpoint",
    "read_evaluations",
    "read_recalibration",
    "reason_of",
    "require_finite",
    "save_mean",
    "save_posterior",
    "saved_aside",
    "whole_tensors",
    "write_aside",
    "write_card",
    "write_evaluations",
]
