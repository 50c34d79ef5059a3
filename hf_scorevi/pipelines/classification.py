"""What all pipelines have in common that classify with the uncertainty of every prediction."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import Pipeline
from transformers.utils import ModelOutput  # type: ignore[attr-defined]

from ..errors import InputError
from ..modeling import BayesianModel
from .loading import load_part, own_part

__all__ = ["UNCERTAINTIES", "BayesianClassification"]

UNCERTAINTIES = ("entropy", "expected_entropy", "mutual_information")
_PREDICTS = {"classes": "choose one of several classes", "tokens": "choose a class for each token"}


class BayesianClassification(Pipeline):
    """
    A base class to put before a transformers pipeline, which then takes a `BayesianModel`.

    Attributes:
        bayesian_task: its task's name for `pipeline`.
        part: the argument with the processor that makes the model's inputs.
        predicts: the `task` that the model must have.
    """

    bayesian_task: ClassVar[str]
    part: ClassVar[str]
    predicts: ClassVar[str] = "classes"

    # All are loaded here: `pipeline` would ask whether to run their code.
    _load_tokenizer = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_processor = False  # type: ignore[assignment]

    model: Any

    def __init__(self, model: BayesianModel, **kwargs: Any) -> None:
        name, where = vars(model).pop("origin", (None, {})) if isinstance(model, BayesianModel) else (None, {})
        given = kwargs.get(self.part)
        if isinstance(given, str):
            kwargs[self.part] = load_part(self.part, given)
        elif given is None and name is not None:
            kwargs[self.part] = own_part(self.part, name, **where)
        elif given is None and isinstance(model, BayesianModel):
            raise InputError(
                f"The pipeline {self.bayesian_task!r} needs {self.part}=..., for a model that is given itself."
            )
        super().__init__(model=model, **kwargs)  # type: ignore[arg-type]

    def check_model_type(self, supported_models: Any) -> None:
        """Raise an error unless the model has a posterior."""
        if not isinstance(self.model, BayesianModel):
            raise TypeError(
                f"The pipeline {self.bayesian_task!r} needs a BayesianModel, not a {type(self.model).__name__}. Give "
                f'the name of a checkpoint with a posterior, or use "{self.bayesian_task.removeprefix("bayesian-")}".'
            )
        if self.model.task != self.predicts:
            raise ValueError(
                f"The pipeline {self.bayesian_task!r} is for models that {_PREDICTS[self.predicts]}, and this one "
                f"predicts {self.model.task}."
            )

    def _sanitize_parameters(
        self, num_samples: int | None = None, seed: int | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)  # type: ignore[safe-super]
        given = {"num_samples": num_samples, "seed": seed}
        return preprocess, forward | {k: v for k, v in given.items() if v is not None}, postprocess

    def predicted(self, inputs: Any, draws: dict[str, int]) -> dict[str, Tensor]:
        """Return the logarithms of the predictive as `logits`, and the uncertainties."""
        own = {"num_samples": self.model.num_samples, "seed": self.model.seed}
        output = self.model.predict(**(own | draws), return_samples=False, **inputs)
        return {"logits": output.log_probs} | {name: getattr(output, name) for name in UNCERTAINTIES}

    def _forward(self, input_tensors: Any, **draws: Any) -> ModelOutput:
        return ModelOutput(**self.predicted(input_tensors, draws))

    def postprocess(self, model_outputs: Any, top_k: int | None = 5, **kwargs: Any) -> Any:  # type: ignore[override]
        """Return the dictionary of one input."""
        probs = model_outputs["logits"][0].softmax(-1)
        names = self.model.config.id2label
        best = probs.argsort(descending=True)[:top_k].tolist()
        predictions = [{"label": names[i], "score": probs[i].item()} for i in best]
        return {
            **predictions[0],
            "predictions": predictions,
            **{name: model_outputs[name].item() for name in UNCERTAINTIES},
        }
