"""
Reading the configuration of a model, without executing anything that it names.

The libraries get one that was read and checked here: they would take up much that a configuration can name, such as
code and other models.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig

from .. import models as _own_models  # noqa: F401  # which tells transformers of them
from ..errors import PosteriorCheckpointError
from .checkpoint import POSTERIOR_CONFIG_NAME
from .loading import read_config
from .network import without_network
from .untrusted import read_json, reading, short

__all__ = ["FEW", "OWN_BASE", "build_config", "read_base_config", "read_model_config"]

# What a configuration counts is no more than its model has weights, or than this, if those are not at hand. Of labels
# and layers it makes lists at once.
FEW, _MOST = 100_000, 10_000_000
_COUNTS = ("num", "layer", "label", "depth", "head", "size", "dim", "channel", "expert")
# What names code, in a repository or as a kernel on the Hub, or how to compute: for who reads a model to say.
_CODE = {
    "auto_map",
    "custom_pipelines",
    "fusion_config",
    "distributed_config",
    "transformers_weights",
    "checkpoint_path",
}
_KERNELS = "implementation"  # in the keys of those for attention and experts, of which transformers has several
# What timm takes for the name of a repository or a folder, in the place of an architecture.
_ELSEWHERE = re.compile(r"(hf[-_]?hub|local[-_]?dir):", re.IGNORECASE)
OWN_BASE = "give BayesianModel.from_pretrained(..., base_model=model)"


def read_base_config(folder: str | os.PathLike[str]) -> PreTrainedConfig | None:
    """Return the configuration of the model that the adapter in `folder` belongs to; `None` if it is not recorded."""
    values = read_config(Path(folder)).get("base_config")
    return None if values is None else build_config(values, Path(folder) / POSTERIOR_CONFIG_NAME, _MOST, True)


def read_model_config(path: Path) -> PreTrainedConfig:
    """Return the configuration in a model's `config.json`."""
    return build_config(read_json(path), path, _MOST, True)


def build_config(values: Any, path: Path, most: int, quantised: bool = False) -> PreTrainedConfig:
    """
    Return the transformers configuration that `values`, read from `path`, describe. Unlike
    `AutoConfig.from_pretrained` it never asks whether to run code from the checkpoint: what transformers does not have
    is an error.

    Args:
        most: that anything may be counted.
        quantised: whether the model may be, by bitsandbytes, which needs nothing but its weights.
    """

    def cleaned(value: Any, key: str) -> Any:
        if key == "quantization_config" and value and not (quantised and value["quant_method"] == "bitsandbytes"):
            raise PosteriorCheckpointError(
                f"{path} asks for the quantisation {short(value)}. Only the base of an adapter can be quantised, and "
                f"only by bitsandbytes; for another, {OWN_BASE}."
            )
        if isinstance(value, dict):
            return {
                name: cleaned(own, name) for name, own in value.items() if name not in _CODE and _KERNELS not in name
            }
        if isinstance(value, list):
            return [cleaned(own, key) for own in value]
        if isinstance(value, str) and _ELSEWHERE.match(value):
            raise PosteriorCheckpointError(
                f"{path} has {short(key)} = {short(value)}, a model from elsewhere. A model is built from its own "
                "checkpoint alone."
            )
        if isinstance(value, int | float) and abs(value) > most and any(part in key for part in _COUNTS):
            raise PosteriorCheckpointError(f"{path} has {short(key)} = {value}, which cannot be right.")
        return value

    with reading(path), without_network(path):
        if (kind := values["model_type"]) not in CONFIG_MAPPING:
            raise PosteriorCheckpointError(
                f"{path} names the model type {short(kind)}, which transformers {transformers.__version__} does not "
                "have. Code from a checkpoint is never executed. If you have its class, build a model of it and give "
                "BayesianModel.from_pretrained(..., base_model=model)."
            )
        names = values.get("architectures") or []
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise TypeError(f"architectures are {names!r}, where names of classes belong")
        return CONFIG_MAPPING[kind].from_dict(cleaned(values, ""))
