"""Weights of the original implementation (github.com/thuml/Koopa) as a model of this library."""

import re
from collections.abc import Mapping

from torch import Tensor

from .configuration_koopa import KoopaConfig
from .modeling_koopa import KoopaForPrediction

__all__ = ["from_original_state_dict"]

# Each block of the original has the shared encoders and decoders once more; only its operator is its own.
_SHARED = re.compile(r"time_(inv|var)_(encoder|decoder)\.layers\.(\d+\.(?:weight|bias))")
_OPERATOR = re.compile(r"time_inv_kps\.(\d+)\.K\.weight")
_COPY = re.compile(r"time_(?:inv|var)_kps\.\d+\.(?:encoder|decoder)\.layers\.\d+\.(?:weight|bias)")
_KINDS = {"inv": "invariant", "var": "variant"}


def from_original_state_dict(state_dict: Mapping[str, Tensor], config: KoopaConfig) -> KoopaForPrediction:
    """
    Build a model with the weights of the original, in evaluation mode and of their dtype.

    Args:
        state_dict: of the original's `Model`.
        config: with the settings it was trained with; also its `mask_spectrum`, which the state dict does not hold.

    Raises:
        ValueError: keys that the original has not, or tensors that do not fit the configuration.
    """
    weights = {}
    for key, tensor in state_dict.items():
        if found := _SHARED.fullmatch(key):
            kind, part, rest = found.groups()
            weights[f"model.time_{_KINDS[kind]}_{part}.{rest}"] = tensor
        elif found := _OPERATOR.fullmatch(key):
            weights[f"model.operators.{found[1]}.weight"] = tensor
        elif not _COPY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of the original Koopa's state dict.")
    model = KoopaForPrediction(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(shapes.keys() | given.keys()):
        if shapes.get(name) != given.get(name):
            raise ValueError(
                f"The state dict does not fit the configuration: {name!r} should have the shape "
                f"{shapes.get(name, 'none at all')} and has {given.get(name, 'none at all')}."
            )
    model.to(next(iter(weights.values())).dtype)  # type: ignore[arg-type]
    model.load_state_dict(weights)
    return model.eval()
