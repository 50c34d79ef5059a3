"""Image classification with the uncertainty of every prediction."""

from __future__ import annotations

from typing import Any

from transformers import ImageClassificationPipeline
from transformers.image_utils import load_image
from transformers.utils import ModelOutput  # type: ignore[attr-defined]

from ..errors import InputError
from ..hub.processors import load_image_processor
from ..hub.untrusted import short
from ..modeling import BayesianModel
from .loading import own_image_processor

__all__ = ["TASK", "BayesianImageClassificationPipeline"]

TASK = "bayesian-image-classification"
_UNCERTAINTIES = ("entropy", "expected_entropy", "mutual_information")


class BayesianImageClassificationPipeline(ImageClassificationPipeline):
    """
    Classes of images with the uncertainty of the prediction.

    ```python
    classifier = pipeline("bayesian-image-classification", model="user/repository")
    classifier("cat.jpg", num_samples=32, seed=0, top_k=2)
    # {"label": "cat", "score": 0.81, "predictions": [{"label": "cat", "score": 0.81}, {"label": "dog", …}],
    #  "entropy": 0.52, "expected_entropy": 0.44, "mutual_information": 0.08}
    ```

    For each image a dictionary: `label` and `score` of the most probable class; the `top_k` classes as `predictions`;
    and, in nats, the `entropy` of the predictive and its parts, `expected_entropy` (what more knowledge of the weights
    would leave) and `mutual_information` (what comes from the weights' uncertainty).

    Args:
        model: a `BayesianModel`, or where one lies: on the Hub or in a folder.
        image_processor: for a model that is given itself, or where one lies; default: the one that lies beside the
            model, or of an adapter beside its base. It has to be of transformers: no code is executed.
        num_samples, seed: of the posterior draws, in the call or once for all; default: the model's own, 16 and 0.
            The others are those of the image-classification pipeline.
    """

    # All are loaded here: `pipeline` would ask whether to run code of theirs.
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False
    _load_processor = False

    model: Any

    def __init__(self, model: BayesianModel, image_processor: Any = None, **kwargs: Any) -> None:
        name, where = vars(model).pop("origin", (None, {})) if isinstance(model, BayesianModel) else (None, {})
        if isinstance(image_processor, str):
            image_processor = load_image_processor(image_processor)
        elif image_processor is None and name is not None:
            image_processor = own_image_processor(name, **where)
        elif image_processor is None and isinstance(model, BayesianModel):
            raise InputError(f"The pipeline {TASK!r} needs image_processor=..., for a model that is given itself.")
        super().__init__(model=model, image_processor=image_processor, **kwargs)

    def check_model_type(self, supported_models: Any) -> None:
        """Only a model with a posterior will do."""
        if not isinstance(self.model, BayesianModel):
            raise TypeError(
                f"The pipeline {TASK!r} needs a BayesianModel, not a {type(self.model).__name__}. Give the name of "
                'a checkpoint with a posterior, or use "image-classification".'
            )
        if self.model.kind != "classes":
            raise ValueError("The pipeline is for models that choose one of several classes.")

    def _sanitize_parameters(  # type: ignore[override]
        self, num_samples: int | None = None, seed: int | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        given = {"num_samples": num_samples, "seed": seed}
        return preprocess, forward | {k: v for k, v in given.items() if v is not None}, postprocess

    def preprocess(self, image: Any, timeout: float | None = None) -> Any:  # type: ignore[override]
        """What the model takes of one image."""
        image = load_image(image, timeout=timeout)
        try:
            return super().preprocess(image)
        except Exception as error:  # its configuration may be anybody's
            raise InputError(
                f"The image processor cannot make an input of the image ({type(error).__name__}: {short(error)}). "
                "Mend its preprocessor_config.json, or give another by image_processor=..."
            ) from error

    def _forward(self, model_inputs: Any, **draws: Any) -> ModelOutput:  # type: ignore[override]
        own = {"num_samples": self.model.num_samples, "seed": self.model.seed}
        output = self.model.predict(**(own | draws), return_samples=False, **model_inputs)
        return ModelOutput(logits=output.log_probs, **{name: getattr(output, name) for name in _UNCERTAINTIES})

    def postprocess(self, model_outputs: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The dictionary of one image."""
        predictions = super().postprocess(model_outputs, **kwargs)
        return {
            **predictions[0],
            "predictions": predictions,
            **{name: model_outputs[name].item() for name in _UNCERTAINTIES},
        }
