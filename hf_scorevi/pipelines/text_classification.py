"""Text classification with the uncertainty of every prediction."""

from __future__ import annotations

from typing import Any

from transformers import Pipeline, TextClassificationPipeline

from .classification import BayesianClassification

__all__ = ["BayesianTextClassificationPipeline"]


class BayesianTextClassificationPipeline(BayesianClassification, TextClassificationPipeline):  # type: ignore[misc]
    """
    Classify texts, with the uncertainty of each prediction.

    ```python
    classifier = pipeline("bayesian-text-classification", model="user/repository")
    classifier("What a film!", num_samples=32, seed=0)
    classifier({"text": "It rains.", "text_pair": "The street is wet."}, truncation=True)
    ```

    For each text, or pair of texts, it returns a dictionary like that of `BayesianImageClassificationPipeline`.

    Args:
        model: a `BayesianModel`, or where one lies: on the Hub or in a folder.
        tokenizer: for a model passed as an object, or where one lies; default: the one beside the model, or
            beside an adapter's base. Its class must be of transformers: no code is executed.
        num_samples, seed, top_k: as in `BayesianImageClassificationPipeline`. All other arguments are the tokenizer's.
    """

    bayesian_task = "bayesian-text-classification"
    part = "tokenizer"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Return the dictionary of one text, or a list of them for several."""
        return Pipeline.__call__(self, inputs, **kwargs)  # the stock one makes a list of a single result

    def postprocess(self, model_outputs: Any, _legacy: bool = False, **kwargs: Any) -> Any:  # type: ignore[override]
        """Return the dictionary of one text."""
        return super().postprocess(model_outputs, **kwargs)
