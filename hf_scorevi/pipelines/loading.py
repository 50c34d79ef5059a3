"""Loading by name for `transformers.pipeline`, which would ask whether to run a checkpoint's code: it never is."""

from __future__ import annotations

import functools
from collections.abc import Container
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from ..errors import InputError, PosteriorCheckpointError
from ..hub.fetching import fetch_beside
from ..hub.models import read_model_config
from ..hub.processors import load_image_processor
from ..hub.untrusted import read_json, short
from ..modeling import BayesianModel
from ..time_series import SeriesProcessor

__all__ = ["ForecasterLoader", "Loader", "load_processor", "own_image_processor", "read_configurations_of"]

_PROCESSOR_NAME = "preprocessor_config.json"
# What of the arguments of `pipeline` says where a file is.
_WHERE = ("revision", "token", "cache_dir", "local_files_only")


class NotLoadedError(Exception):
    """A checkpoint is no model for a pipeline; after most other errors `pipeline` would go on to the plain model."""


class Loader:
    """Loads a `BayesianModel`; its attribute `origin` says where from."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, trust_remote_code: Any = None, _from_pipeline: Any = None, **kwargs: Any
    ) -> BayesianModel:
        """
        Raises:
            NotLoadedError: there is none.
        """
        try:
            return cls._load(name, **kwargs)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise NotLoadedError(f"{name} cannot be loaded as a BayesianModel: {error}") from error

    @classmethod
    def _load(cls, name: str, **kwargs: Any) -> BayesianModel:
        model = BayesianModel.from_pretrained(name, **kwargs)
        vars(model)["origin"] = name, {key: kwargs[key] for key in _WHERE if key in kwargs}
        return model


class ForecasterLoader(Loader):
    """Loads a `BayesianModel` and, as its attribute `processor`, the `SeriesProcessor` beside it or `None`."""

    @classmethod
    def _load(cls, name: str, **kwargs: Any) -> BayesianModel:
        model = super()._load(name, **kwargs)
        vars(model)["processor"] = load_processor(name, **vars(model).pop("origin")[1])
        return model


def load_processor(name: str, **where: Any) -> SeriesProcessor | None:
    """
    The `SeriesProcessor` of a checkpoint, `None` if it has none. Not by transformers, which for a pipeline would take
    one that is damaged for none, and the series for standardised.

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


def own_image_processor(name: str, **where: Any) -> Any:
    """
    The image processor of a checkpoint; of an adapter that has none, its base model's.

    Raises:
        PosteriorCheckpointError: there is none, or none of transformers.
        OSError: the Hub cannot be reached.
    """
    if fetch_beside(name, _PROCESSOR_NAME, **where) is None:
        adapter = fetch_beside(name, "adapter_config.json", **where)
        base = None if adapter is None else read_json(adapter).get("base_model_name_or_path")
        if isinstance(base, str):
            return load_image_processor(base, **where | {"revision": None})
    return load_image_processor(name, **where)


def read_configurations_of(tasks: Container[str]) -> None:
    """
    Have `pipeline` read a model's configuration as `BayesianModel` does, for these tasks.

    It reads that before it calls anything of ours, by `AutoConfig`, and at a "y" on the terminal runs what the
    checkpoint names there. It tells `AutoConfig` the task, by which its own calls are known.
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
    path = fetch_beside(name, "config.json", **{key: kwargs[key] for key in _WHERE if key in kwargs})
    if path is None:
        raise PosteriorCheckpointError(
            f"{name} has no config.json, so the pipeline {task!r} does not know its model. Load it by "
            "BayesianModel.from_pretrained, and give that to the pipeline."
        )
    return read_model_config(path)
