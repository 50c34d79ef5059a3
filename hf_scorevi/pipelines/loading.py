"""Loading by name for `transformers.pipeline`, which could otherwise ask to run a checkpoint's code; it never runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from ..errors import InputError, PosteriorCheckpointError
from ..hub.fetching import fetch_beside
from ..hub.model_config import read_model_config
from ..hub.processors import (
    PROCESSOR_FILES,
    TOKENIZER_FILES,
    load_feature_extractor,
    load_image_processor,
    load_tokenizer,
)
from ..hub.untrusted import read_json, short
from ..modeling import BayesianModel
from ..time_series import SeriesProcessor

__all__ = ["ForecasterLoader", "Loader", "load_part", "load_processor", "own_part", "read_configurations_of"]

_PROCESSOR_NAME = "preprocessor_config.json"
# Processors by the argument of `pipeline`: the function that loads one, and the files that show that there is one.
_PARTS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "image_processor": (load_image_processor, PROCESSOR_FILES),
    "feature_extractor": (load_feature_extractor, PROCESSOR_FILES),
    "tokenizer": (load_tokenizer, TOKENIZER_FILES),
}
# Arguments of `pipeline` that locate a file.
_WHERE = ("revision", "token", "cache_dir", "local_files_only")


class NotLoadedError(Exception):
    """A checkpoint is no model for a pipeline; after most other errors `pipeline` would go on to the plain model."""


def _where(kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    Return the arguments that locate a file. A commit that transformers has looked up may be of an adapter's base.
    """
    found = {key: kwargs[key] for key in _WHERE if key in kwargs}
    if hasattr(found.get("revision"), "resolved"):
        found["revision"] = found["revision"].initial
    return found


class Loader:
    """A loader of a `BayesianModel`, whose attribute `origin` records where it came from."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, trust_remote_code: Any = None, _from_pipeline: Any = None, **kwargs: Any
    ) -> BayesianModel:
        """
        Load the `BayesianModel` of that name.

        Raises:
            NotLoadedError: it cannot be loaded.
        """
        try:
            return cls._load(name, **kwargs)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise NotLoadedError(f"{name} cannot be loaded as a BayesianModel: {error}") from error

    @classmethod
    def _load(cls, name: str, **kwargs: Any) -> BayesianModel:
        where = _where(kwargs)
        model = BayesianModel.from_pretrained(name, **kwargs | where)
        vars(model)["origin"] = name, where
        return model


class ForecasterLoader(Loader):
    """
    A loader of a `BayesianModel` that sets its attribute `processor` to the `SeriesProcessor` beside it, or `None`.
    """

    @classmethod
    def _load(cls, name: str, **kwargs: Any) -> BayesianModel:
        model = super()._load(name, **kwargs)
        vars(model)["processor"] = load_processor(name, **vars(model).pop("origin")[1])
        return model


def load_processor(name: str, **where: Any) -> SeriesProcessor | None:
    """
    Load the `SeriesProcessor` of a checkpoint; return `None` if it has none. transformers' own loader would ignore a
    damaged one in a pipeline, and take the series for standardised.

    Args:
        name: folder or repository.
        where: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        ValueError: there is a `preprocessor_config.json`, but it is damaged, or of another kind of processor.
        OSError: the Hub cannot be reached.
    """
    path = fetch_beside(name, _PROCESSOR_NAME, **where)
    if path is None:
        return None
    try:
        found: SeriesProcessor = SeriesProcessor.from_dict(read_json(path))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{_PROCESSOR_NAME} of {name} cannot be read ({short(error)}). Save the SeriesProcessor of the training "
            "data there, or load the model by BayesianModel.from_pretrained and give feature_extractor=..."
        ) from error
    return found


def load_part(part: str, name: str, **where: Any) -> Any:
    """
    Load the processor that makes a model's inputs.

    Args:
        part: `"image_processor"`, `"feature_extractor"` or `"tokenizer"`.
        name: folder or repository.
        where: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        PosteriorCheckpointError: there is none, or it is not a class of transformers.
        OSError: the Hub cannot be reached.
    """
    return _PARTS[part][0](name, **where)


def own_part(part: str, name: str, **where: Any) -> Any:
    """Load the processor of a checkpoint, or that of its base model if it is an adapter without one."""
    if all(fetch_beside(name, file, **where) is None for file in _PARTS[part][1]):
        adapter = fetch_beside(name, "adapter_config.json", **where)
        base = None if adapter is None else read_json(adapter).get("base_model_name_or_path")
        if isinstance(base, str):
            return load_part(part, base, **where | {"revision": None, "subfolder": ""})
    return load_part(part, name, **where)


def read_configurations_of(tasks: Container[str]) -> None:
    """
    Have `pipeline` read a model's configuration as `BayesianModel` does, for these tasks.

    Before it calls this library it reads the configuration by `AutoConfig`, and if the user types "y" it runs the code
    that the checkpoint names there. It passes the task to `AutoConfig`, which identifies such calls.
    """
    stock = vars(AutoConfig)["from_pretrained"].__func__

    @functools.wraps(stock)
    def from_pretrained(cls: type[AutoConfig], name: Any, **kwargs: Any) -> Any:
        task: Any = kwargs.get("_from_pipeline")
        return _read_config(name, task, **kwargs) if task in tasks else stock(cls, name, **kwargs)

    AutoConfig.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment]


def _read_config(name: str, task: str, *, trust_remote_code: bool | None = None, **kwargs: Any) -> PreTrainedConfig:
    if trust_remote_code:
        raise InputError(
            f"The pipeline {task!r} never executes code from a checkpoint: leave out trust_remote_code=True."
        )
    path = fetch_beside(name, "config.json", **_where(kwargs))
    if path is None:
        raise PosteriorCheckpointError(
            f"{name} has no config.json, so the pipeline {task!r} does not know its model. Load it by "
            "BayesianModel.from_pretrained, and give that to the pipeline."
        )
    return read_model_config(path)
