"""
What an adapter's configuration asks PEFT to make, as far as it is bounded by the weights that are stored with it.

PEFT takes regular expressions for the names of modules, and there are some of a dozen characters that never come to an
end. The stored weights name the modules that have an adapter, so for these no expression is ever matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import PosteriorCheckpointError
from .files import remedy
from .untrusted import StoredTensors, short

__all__ = ["ADAPTERS", "only_stored_modules", "read_adapter_config"]

# Adapters that consist of weights alone. Others read models, tokenizers and tensors that their configuration names.
ADAPTERS = ("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "HRA", "LN_TUNING", "FOURIERFT")
# What PEFT makes tensors of, or does so many times, before it compares them with the stored ones.
_SIZES = (
    *("r", "init_r", "target_r", "rank_pattern", "decompose_factor", "n_frequency", "n_frequency_pattern"),
    *("oft_block_size", "boft_block_size", "boft_block_num", "boft_n_butterfly_factor", "num_cayley_neumann_terms"),
)
_NOT_LORA = ("megatron_config", "layer_replication", "arrow_config", "monteclora_config")
_MAX_ITERATIONS = 100
# Numbers by the names of modules.
_PATTERNS = ("rank_pattern", "alpha_pattern", "n_frequency_pattern")
_NAME = re.compile(r"[\w.-]{1,500}", re.ASCII)
# An expression that is soon matched: it repeats nothing but single characters, and twice at most, and has one choice.
_SIMPLE = re.compile(r"\^?(?:[\w\-|()]|(?:\.|\\[.d\-]|\[[\w.\-]{1,50}\])[*+]?)*\$?", re.ASCII)
_MAX_SIMPLE = 20  # of these
_MAX_NAMES = 1000  # if there are fewer tensors


def read_adapter_config(values: dict[str, Any], weights: StoredTensors, path: Path) -> tuple[Any, bool]:
    """
    Return PEFT's configuration of the adapter that `values`, read from `path`, describe, and whether it names the
    modules in full (`only_stored_modules`).

    Raises:
        PosteriorCheckpointError: an adapter that is not read, or what cannot be right for these weights.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    kind, unsafe = values.get("peft_type"), [name for name in _NOT_LORA if values.get(name)]
    if kind not in ADAPTERS or unsafe:
        raise PosteriorCheckpointError(
            f"{path} describes an adapter of type {short(kind)}{f' with {unsafe[0]}' if unsafe else ''}; those that "
            f"are read are {', '.join(ADAPTERS)}. {remedy(path)}"
        )
    _check_sizes(values, weights, path)
    _check_names(values, len(weights.shapes), path)
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {name: value for name, value in values.items() if name != "runtime_config"}
    has_expressions = bool(values.get("layers_pattern")) or any(
        isinstance(values.get(name), str) for name in ("target_modules", "exclude_modules")
    )
    if has_expressions:
        known |= _stored_modules(values, weights, kind)
    return config_class.from_peft_type(**config_class.check_kwargs(**known)), has_expressions


def only_stored_modules(config: Any, base_model: nn.Module) -> None:
    """Keep PEFT from modules of `base_model` whose names only end like one of those that are named in full."""
    wanted = config.target_modules
    endings = tuple(f".{name}" for name in wanted)
    others = {name for name, _ in base_model.named_modules() if name.endswith(endings) and name not in wanted}
    config.exclude_modules = others or None


def _check_sizes(values: dict[str, Any], weights: StoredTensors, path: Path) -> None:
    largest = max((max(shape, default=0) for shape in weights.shapes.values()), default=0)
    for name in _SIZES:
        value = values.get(name)
        for size in value.values() if isinstance(value, dict) else [value]:
            if isinstance(size, int | float) and size > max(largest, 1000):
                raise PosteriorCheckpointError(
                    f"{path} has {name} = {size}, too large for its weights. {remedy(path)}"
                )
    tokens = values.get("trainable_token_indices") or []
    for own in tokens.values() if isinstance(tokens, dict) else [tokens]:
        if len(own) > largest:
            raise PosteriorCheckpointError(
                f"{path} has {len(own):,} trainable_token_indices, too many for its weights. {remedy(path)}"
            )
    start, loftq = str(values.get("init_lora_weights")), values.get("loftq_config") or {}
    for steps in (start.rpartition("_niter_")[2] if "_niter_" in start else 0, loftq.get("loftq_iter", 0)):
        if not 0 <= int(steps if len(str(steps)) < 9 else -1) <= _MAX_ITERATIONS:
            raise PosteriorCheckpointError(
                f"{path} asks for {short(steps)} iterations, where at most {_MAX_ITERATIONS} can be right. "
                + remedy(path)
            )


def _check_names(values: dict[str, Any], tensors: int, path: Path) -> None:
    """
    Check that lists of names are no longer than they need be, and what PEFT makes expressions of are names or simple
    ones.
    """
    most = max(tensors, _MAX_NAMES)
    for name in ("target_modules", "exclude_modules", "target_parameters", "modules_to_save", *_PATTERNS):
        found = values.get(name) or []
        if isinstance(found, str) and name != "modules_to_save":
            continue  # an expression, which is never matched
        if not isinstance(found, list | dict) or len(found) > most:
            raise PosteriorCheckpointError(
                f"{path} has {short(found)} in {name}, where at most {most:,} names can be right. {remedy(path)}"
            )
    for text in values.get("modules_to_save") or []:
        if not (isinstance(text, str) and _NAME.fullmatch(text)):
            raise PosteriorCheckpointError(
                f"{path} has {short(text)} in modules_to_save, which is no name of a module. {remedy(path)}"
            )
    forward = values.get("feedforward_modules")
    patterns = [text for name in _PATTERNS for text in values.get(name) or []]
    expressions = [text for text in (*patterns, forward) if isinstance(text, str) and not _NAME.fullmatch(text)]
    for i, text in enumerate(expressions):
        if i >= _MAX_SIMPLE or not _is_simple(text):
            problem = "one of many" if i >= _MAX_SIMPLE else "not a simple one"
            raise PosteriorCheckpointError(
                f"{path} has the expression {short(text)}, {problem}, which could take for ever to match. "
                "Write out the names of the modules."
            )


def _is_simple(text: str) -> bool:
    few = len(text) <= 500 and text.count("(") <= 1 and len(re.findall("[*+]", text)) <= 2
    return few and _SIMPLE.fullmatch(text) is not None


def _stored_modules(values: dict[str, Any], weights: StoredTensors, kind: str) -> dict[str, Any]:
    """Return the modules that have an adapter by their full names, in place of expressions."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    part = "." + PEFT_TYPE_TO_PREFIX_MAPPING[PeftType(kind)]
    parameters = [name.rpartition(".")[0] for name in values.get("target_parameters") or []]
    modules = {
        key.removeprefix("base_model.model.").partition(part)[0].replace(".base_layer", "")
        for key in weights.shapes
        if part in key
    }
    modules = {name for name in modules if not _ends_with(name, parameters)}
    found: dict[str, Any] = {"target_modules": sorted(modules)}
    found |= {name: None for name in ("exclude_modules", "layers_to_transform", "layers_pattern") if name in values}
    if forward := values.get("feedforward_modules"):
        is_one = isinstance(forward, str)
        found["feedforward_modules"] = sorted(
            name for name in modules if (re.fullmatch(forward, name) if is_one else _ends_with(name, forward))
        )
    return found


def _ends_with(name: str, endings: Iterable[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)
