"""
Pipelines of transformers for models with a posterior.

`pipeline("text-classification", model=bayesian_model, tokenizer=...)` and other tasks of classification take a
`BayesianModel` like any model. `pipeline("bayesian-text-classification", model="user/repository")`, and so for images,
audio and tokens, adds the uncertainty, and `pipeline("forecasting", model="user/repository")` forecasts series.
Importing this package registers these tasks.
"""

from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import SUPPORTED_PEFT_TASKS

from .. import models as _models  # noqa: F401  # registers Koopa, whose configuration `pipeline` reads
from ..modeling import BayesianModel
from .audio_classification import BayesianAudioClassificationPipeline
from .forecasting import TASK, ForecastingPipeline
from .image_classification import BayesianImageClassificationPipeline
from .loading import ForecasterLoader, Loader, read_configurations_of
from .text_classification import BayesianTextClassificationPipeline
from .token_classification import BayesianTokenClassificationPipeline

__all__ = [
    "BayesianAudioClassificationPipeline",
    "BayesianImageClassificationPipeline",
    "BayesianModel",
    "BayesianTextClassificationPipeline",
    "BayesianTokenClassificationPipeline",
    "ForecastingPipeline",
]

# Tasks whose pipelines need nothing of a model but `logits`.
_STOCK_TASKS = (
    "audio-classification",
    "image-classification",
    "image-segmentation",
    "text-classification",
    "token-classification",
    "video-classification",
)
_OWN: dict[Any, str] = {
    BayesianAudioClassificationPipeline: "audio",
    BayesianImageClassificationPipeline: "image",
    BayesianTextClassificationPipeline: "text",
    BayesianTokenClassificationPipeline: "text",
}

for _task, _class, _loader, _type in (
    *((own.bayesian_task, own, Loader, _type) for own, _type in _OWN.items()),
    (TASK, ForecastingPipeline, ForecasterLoader, "multimodal"),
):
    PIPELINE_REGISTRY.register_pipeline(_task, _class, pt_model=(_loader,), type=_type)
    del _class._registered_impl  # type: ignore[union-attr]  # or save_pretrained would write code into the checkpoint, to be trusted on loading
read_configurations_of((TASK, *(own.bayesian_task for own in _OWN)))
for _task in _STOCK_TASKS:  # or they would log a list of all models that they know, as an error
    _names = SUPPORTED_PEFT_TASKS.setdefault(_task, [])
    if BayesianModel.__name__ not in _names:
        _names.append(BayesianModel.__name__)
