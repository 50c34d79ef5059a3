"""Loading by name for `transformers.pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.utils import cached_file  # type: ignore[attr-defined]

from ..hub.untrusted import read_json, short
from ..modeling import BayesianModel
from ..time_series import SeriesProcessor

__all__ = ["ForecasterLoader", "Loader", "load_processor"]

_PROCESSOR_NAME = "preprocessor_config.json"


class NotLoadedError(Exception):
    """A checkpoint is no model for a pipeline; after most other errors `pipeline` would go on to the plain model."""


class Loader:
    """Loads a `BayesianModel`."""

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
        return BayesianModel.from_pretrained(name, **kwargs)


class ForecasterLoader(Loader):
    """Loads a `BayesianModel` and, as its attribute `processor`, the `SeriesProcessor` beside it or `None`."""

    @classmethod
    def _load(cls, name: str, **kwargs: Any) -> BayesianModel:
        model = super()._load(name, **kwargs)
        where = {key: kwargs[key] for key in ("revision", "token", "cache_dir", "local_files_only") if key in kwargs}
        vars(model)["processor"] = load_processor(name, **where)
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
    path = cached_file(name, _PROCESSOR_NAME, _raise_exceptions_for_missing_entries=False, **where)
    if path is None:
        return None
    try:
        found: SeriesProcessor = SeriesProcessor.from_dict(read_json(Path(path)))
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{_PROCESSOR_NAME} of {name} cannot be read ({short(error)}). Save the SeriesProcessor of the training "
            "data there, or load the model by BayesianModel.from_pretrained and give feature_extractor=..."
        ) from error
    return found
