"""The forecaster to train or to evaluate, from the Hub or from scratch, and its processor."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from hf_scorevi.errors import InputError
from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, fit_mask_spectrum
from hf_scorevi.time_series import SeriesProcessor, SeriesTable
from trainer._series_data import DataArguments

__all__ = ["ModelArguments", "load_model", "load_processor", "make_config"]

_CLASSES: dict[str, type[PreTrainedModel]] = {
    "koopa": KoopaForPrediction,
    "patchtst": transformers.PatchTSTForPrediction,
    "patchtsmixer": transformers.PatchTSMixerForPrediction,
    "time_series_transformer": transformers.TimeSeriesTransformerForPrediction,
    "informer": transformers.InformerForPrediction,
    "autoformer": transformers.AutoformerForPrediction,
}
_CALENDAR = 4  # features of `calendar_features`


@dataclass
class ModelArguments:
    """The model to start from: one of the Hub, or a new one."""

    _argument_group_name: ClassVar[str] = "model"

    model_name_or_path: str | None = field(default=None, metadata={"help": "Model on the Hub, or a folder."})
    model_type: (
        Literal["koopa", "patchtst", "patchtsmixer", "time_series_transformer", "informer", "autoformer"] | None
    ) = field(default=None, metadata={"help": "Kind of a new model, instead of model_name_or_path."})
    model_config: str | None = field(
        default=None,
        metadata={"help": "Settings of the model's configuration, as JSON or in a recipe: {\"num_blocks\": 4}."},
    )  # fmt: skip
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Token for private repositories; if not given, that of `hf auth login`."}
    )
    ignore_mismatched_sizes: bool = field(
        default=False, metadata={"help": "Start weights afresh that do not fit the channels, context or horizon."}
    )

    def __post_init__(self) -> None:
        if bool(self.model_name_or_path) == bool(self.model_type):
            raise ValueError("give either --model_name_or_path, or --model_type for a new model")
        if not isinstance(self.settings, dict):
            raise ValueError(f"model_config must be a JSON object of settings, not {self.model_config}")

    @property
    def settings(self) -> dict[str, Any]:
        """`model_config`, read."""
        if self.model_config is None:
            return {}
        try:
            return json.loads(self.model_config)  # type: ignore[no-any-return]
        except ValueError as error:
            raise ValueError(f"model_config is no JSON ({error}): {self.model_config}") from error


def make_config(
    args: ModelArguments, data_args: DataArguments, table: SeriesTable, train: torch.Tensor, do_train: bool
) -> PreTrainedConfig:
    """
    The model's configuration, for the channels of the series and the lengths asked for.

    Args:
        train: the training part, standardised, (T, C); Koopa's mask is fitted to it if there is none yet.
        do_train: a saved model that is only evaluated keeps its own.
    """
    asked = (("context_length", data_args.context_length), ("prediction_length", data_args.prediction_length))
    lengths = {name: value for name, value in asked if value is not None}
    if args.model_type is not None:
        config_class: Any = _CLASSES[args.model_type].config_class
        values = _suiting(args.model_type, lengths, table)
    else:
        assert args.model_name_or_path is not None
        config = AutoConfig.from_pretrained(
            args.model_name_or_path, revision=args.revision, token=args.token, trust_remote_code=False
        )
        if config.model_type not in _CLASSES:
            raise InputError(
                f"{args.model_name_or_path} is of the type {config.model_type}, which this program cannot train; it "
                f"can train {', '.join(_CLASSES)}."
            )
        if not do_train:
            return config
        config_class, values = type(config), config.to_dict()
        if lengths.get("context_length", config.context_length) != config.context_length:
            values["mask_spectrum"] = None  # of other frequencies
    known = config_class().to_dict()
    unknown = sorted(set(args.settings) - set(known))
    if unknown:
        raise InputError(f"model_config has settings that {config_class.__name__} does not: {', '.join(unknown)}.")
    channels = "num_input_channels" if "num_input_channels" in known else "input_size"
    values |= lengths | {channels: len(table.channels)} | args.settings
    values.pop("feature_size", None)  # worked out of the others
    try:
        config = config_class.from_dict(values)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise InputError(f"There is no such model: {' '.join(str(error).split())}") from error
    if isinstance(config, KoopaConfig) and config.mask_spectrum is None:
        if len(train) < config.context_length:
            raise InputError(
                f"The training part has {len(train)} rows, fewer than the context_length {config.context_length}. "
                "Give a longer series, a larger share to train on (--split), or a shorter --context_length."
            )
        config.mask_spectrum = fit_mask_spectrum(train, config.context_length)
    return config


def _suiting(kind: str, lengths: dict[str, int], table: SeriesTable) -> dict[str, Any]:
    """Settings of a new model that suit the series, where the defaults of its class do not."""
    horizon = lengths.get("prediction_length", 48)
    context = lengths.get("context_length", 2 * horizon)
    values: dict[str, Any] = {"prediction_length": horizon, "context_length": context}
    if kind in ("patchtst", "patchtsmixer"):
        patch = min(16, max(1, context // 4))
        values |= {"patch_length": patch, "patch_stride": max(1, patch // 2)}
    elif kind != "koopa":
        values["num_time_features"] = 0 if table.times is None else _CALENDAR
    if kind == "autoformer":
        values["label_length"] = context // 2
    return values


def load_model(args: ModelArguments, config: PreTrainedConfig) -> PreTrainedModel:
    """The model, in float32."""
    model_class = _CLASSES[config.model_type]
    if args.model_type is not None:
        return model_class(config)
    try:
        return model_class.from_pretrained(
            args.model_name_or_path,
            config=config,
            revision=args.revision,
            token=args.token,
            ignore_mismatched_sizes=args.ignore_mismatched_sizes,
            dtype=torch.float32,
            trust_remote_code=False,
        )
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise InputError(
            f"Some weights of {args.model_name_or_path} do not fit the channels of the series, --context_length or "
            "--prediction_length: leave these out, or start those weights afresh with --ignore_mismatched_sizes."
        ) from error


def load_processor(args: ModelArguments, table: SeriesTable, train_rows: int, do_train: bool) -> SeriesProcessor:
    """The processor fitted to the training rows; of a model that is only evaluated, its own."""
    if do_train or args.model_name_or_path is None:
        return SeriesProcessor.fit(table.values[:train_rows], table.channels, table.frequency)
    folder = args.model_name_or_path
    if not Path(folder, "preprocessor_config.json").is_file():
        raise InputError(f"{folder} has no preprocessor_config.json, so its units are not known: give a run's folder.")
    processor = SeriesProcessor.from_pretrained(folder)
    if processor.channels != table.channels:
        raise InputError(
            f"The model forecasts {', '.join(processor.channels)}, but the series has {', '.join(table.channels)}. "
            "Give the same with --channels, in the same order."
        )
    return processor
