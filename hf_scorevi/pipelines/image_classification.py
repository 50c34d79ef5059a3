"""Image classification with the uncertainty of every prediction."""

from __future__ import annotations

from typing import Any

from transformers import ImageClassificationPipeline
from transformers.image_utils import load_image

from ..errors import InputError
from ..hub.untrusted import short
from .classification import BayesianClassification

__all__ = ["BayesianImageClassificationPipeline"]


class BayesianImageClassificationPipeline(BayesianClassification, ImageClassificationPipeline):  # type: ignore[misc]
    """
    Classify images, with the uncertainty of each prediction.

    ```python
    classifier = pipeline("bayesian-image-classification", model="user/repository")
    classifier("cat.jpg", num_samples=32, seed=0, top_k=2)
    # {"label": "cat", "score": 0.81, "predictions": [{"label": "cat", "score": 0.81}, {"label": "dog", …}],
    #  "entropy": 0.52, "expected_entropy": 0.44, "mutual_information": 0.08}
    ```

    For each image it returns a dictionary: `label` and `score` of the most probable class; the `top_k` classes as
    `predictions`; and, in nats, the `entropy` of the predictive and its parts, `expected_entropy` (the part that more
    knowledge of the weights would leave) and `mutual_information` (the part that comes from the weights' uncertainty).

    Args:
        model: a `BayesianModel`, or where one lies: on the Hub or in a folder.
        image_processor: for a model passed as an object, or where one lies; default: the one beside the
            model, or beside an adapter's base. Its class must be of transformers: no code is executed.
        num_samples, seed: of the posterior draws, in the call or once for all; default: the model's own, 16 and 0.
        top_k: classes in `predictions`; `None` for all.
        timeout: seconds to wait for an image from the web.
    """

    bayesian_task = "bayesian-image-classification"
    part = "image_processor"

    def preprocess(self, image: Any, timeout: float | None = None) -> Any:  # type: ignore[override]
        """Return the model's inputs for one image."""
        image = load_image(image, timeout=timeout)
        try:
            return super().preprocess(image)
        except Exception as error:  # its configuration is not trusted
            raise InputError(
                f"The image processor cannot make an input of the image ({type(error).__name__}: {short(error)}). "
                "Mend its preprocessor_config.json, or give another by image_processor=..."
            ) from error
