"""
Pipelines of transformers for models with a posterior.

`pipeline("image-classification", model=bayesian_model, image_processor=...)` and other tasks of classification take a
`BayesianModel` like any model. `pipeline("bayesian-image-classification", model="user/repository")` adds the
uncertainty, and `pipeline("forecasting", model="user/repository")` forecasts series. Importing this package registers
both.
"""

from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import SUPPORTED_PEFT_TASKS

from .. import models as _models  # noqa: F401  # registers Koopa, whose configuration `pipeline` reads
from ..modeling import BayesianModel
from . import forecasting, image_classification
from .forecasting import ForecastingPipeline
from .image_classification import BayesianImageClassificationPipeline
from .loading import ForecasterLoader, Loader, read_configurations_of

__all__ = ["BayesianImageClassificationPipeline", "BayesianModel", "ForecastingPipeline"]

# Tasks whose pipelines ask no more of a model than `logits`.
_STOCK_TASKS = ("image-classification", "text-classification", "audio-classification", "video-classification")

for _task, _class, _loader, _type in (
    (image_classification.TASK, BayesianImageClassificationPipeline, Loader, "image"),
    (forecasting.TASK, ForecastingPipeline, ForecasterLoader, "multimodal"),
):
    PIPELINE_REGISTRY.register_pipeline(_task, _class, pt_model=(_loader,), type=_type)
    del _class._registered_impl  # type: ignore[union-attr]  # or save_pretrained would write code into the checkpoint, to be trusted on loading
read_configurations_of((image_classification.TASK, forecasting.TASK))
for _task in _STOCK_TASKS:  # or they would log a list of all models that they know, as an error
    _names = SUPPORTED_PEFT_TASKS.setdefault(_task, [])
    if BayesianModel.__name__ not in _names:
        _names.append(BayesianModel.__name__)
