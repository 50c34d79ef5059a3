"""
A loss of the user's own, compared with the likelihood that the model's head stands for.

A focal, weighted or smoothed loss is the likelihood of no data, and what is learned from it a posterior of nothing.
Nothing tells it from a cross-entropy but its values: so these are compared, for the first passes of a training.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.loss.loss_utils import LOSS_MAPPING
from transformers.utils import logging

from ..errors import InputError
from ..heads import Head, base_of

if TYPE_CHECKING:
    from .trainer import ScoreVITrainer

__all__ = ["LossCheck", "own_loss"]

logger = logging.get_logger(__name__)

# Passes that are compared: a weight of a rare class shows in the first batch that has it.
_PASSES = 50
# By how much the same loss may differ, with and without half precision.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 2e-2
_OWN_PACKAGES = ("transformers", "peft", "hf_scorevi")


def own_loss(trainer: ScoreVITrainer, compute_loss: Any) -> str | None:
    """
    What gives the loss, if it is not transformers; `None` otherwise.

    Args:
        compute_loss: the method as this library has it.
    """
    if trainer.compute_loss_func is not None:
        return "compute_loss_func"
    given: Any = inspect.unwrap(trainer.compute_loss)  # of one that is timed or logged
    if getattr(given, "__func__", given) is not compute_loss:
        return f"{type(trainer).__name__}.compute_loss"
    model = base_of(trainer._plain_model())
    function = vars(model).get("_loss_function") or LOSS_MAPPING.get(getattr(model, "loss_type", None) or "")
    if function is not None and not _packaged(function):
        return f"the loss_function of {type(model).__name__}"
    return None if _packaged(type(model)) else type(model).__name__


def _packaged(thing: Any) -> bool:
    return getattr(thing, "__module__", "").split(".")[0] in _OWN_PACKAGES


class _Outputs:
    """A forward hook that keeps what a model gives. It does not keep the model from being copied or pickled."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        self._last = outputs

    def take(self) -> Any:
        """The last outputs, once."""
        last, self._last = self._last, None
        return last

    def __deepcopy__(self, memo: Any) -> _Outputs:
        return _Outputs()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Outputs, ()


class LossCheck:
    """
    Args:
        source: what gives the loss, for messages.
        head: what the model predicts.
        counted: whether the user has said how many terms the likelihood has.
        declared: whether the user has said that the loss is a squared error, so that what cannot be compared passes.
        lenient: whether what cannot be compared passes with a warning, since only its author could know.
        half: whether passes are in half precision.
    """

    def __init__(self, source: str, head: Head, counted: bool, declared: bool, lenient: bool, half: bool) -> None:
        self._source, self.head, self._counted = source, head, counted
        self._declared, self._lenient = declared, lenient
        self._tolerance = _HALF_TOLERANCE if half else _TOLERANCE
        self._left = _PASSES
        self._outputs = _Outputs()

    @property
    def target(self) -> str:
        """What the batch calls the head's target."""
        return self.head.target

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep what `model` gives inside the `with`."""
        if not self._left:
            yield
            return
        handle = model.register_forward_hook(self._outputs)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def compare(self, loss: Tensor, target: Any) -> None:
        """
        Args:
            loss: of the pass, a mean over its micro-batch.
            target: what the batch had as the head's target before the loss took it.

        Raises:
            InputError: it is another loss than the head's, or there is nothing to compare it with.
        """
        outputs = self._outputs.take()
        if not self._left or not bool(loss.isfinite()):
            return
        self._left -= 1
        likelihoods = self._likelihoods(self._prediction(outputs), target)
        if not likelihoods:
            self._left = 0
            self._refuse_unknown()
            return
        value = loss.item()
        for name, expected in likelihoods.items():
            if abs(value - expected) <= self._tolerance * abs(expected) + 1e-6:
                self._refuse_scale(name, target)
                return
        if list(likelihoods) == [_SQUARED] and self.head.kind == "nll":  # a regression of the user's own
            self._left = 0
            self._refuse_unknown()
            return
        name, expected = next(iter(likelihoods.items()))
        raise InputError(
            f"The loss that {self._source} gives is not the {name} of its outputs ({value:.4g}, where that is "
            f"{expected:.4g}): a focal, weighted or smoothed loss is the likelihood of no data, and has no posterior. "
            f"{_DECLARE}"
        )

    def _prediction(self, outputs: Any) -> Tensor | None:
        """The logits, or what else the head predicts."""
        if isinstance(outputs, Tensor):
            return outputs
        for name in (self.head.prediction, "logits"):
            found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
            if isinstance(found, Tensor):
                return found
        if isinstance(outputs, tuple | list):
            return next((value for value in outputs if isinstance(value, Tensor) and value.dim()), None)
        return None

    def _likelihoods(self, prediction: Tensor | None, target: Any) -> dict[str, float]:
        """The losses that `prediction` and `target` may have, by name."""
        if prediction is None or not isinstance(target, Tensor) or not prediction.is_floating_point():
            return {}
        prediction, found = prediction.float(), {}
        if self.head.kind == "gaussian":
            target = self.head.observed(target)
            if target.numel() == prediction.numel():
                found[_SQUARED] = F.mse_loss(prediction.reshape(target.shape), target.float())
        elif not target.is_floating_point():
            if prediction.shape[:-1] == target.shape:
                found[_CROSS] = F.cross_entropy(prediction.flatten(0, -2), target.flatten().long())
            elif prediction.dim() > 2 and prediction.shape[:1] + prediction.shape[2:] == target.shape:
                found[_CROSS] = F.cross_entropy(prediction, target.long())
        elif target.shape == prediction.shape and bool(((target >= 0) & (target <= 1)).all()):
            found[_BINARY] = F.binary_cross_entropy_with_logits(prediction, target.float())
            if prediction.dim() > 1:
                found[_CROSS] = F.cross_entropy(prediction, target.float())
        elif target.numel() == prediction.numel():
            found[_SQUARED] = F.mse_loss(prediction.reshape(target.shape), target.float())
        return {name: value.item() for name, value in found.items()}

    def _refuse_scale(self, name: str, target: Tensor) -> None:
        """The likelihood is known, but not of how many terms it is taken to be."""
        if self.head.kind == "nll" and name == _SQUARED:
            raise InputError(
                f"The loss that {self._source} gives is the mean squared error of its outputs, which is a likelihood "
                "only with a noise variance: give PosteriorConfig(noise_variance='model'), by which it is learned, or "
                "a number."
            )
        labels = target[0].numel() if name == _BINARY else 1
        if labels != (self.head.terms or labels) and not self._counted:
            raise InputError(
                f"The loss that {self._source} gives is a mean over {labels} labels an example, which are so many "
                "terms of the likelihood: set problem_type='multi_label_classification' in the model's config, or "
                "give PosteriorConfig(num_data=examples times labels)."
            )

    def _refuse_unknown(self) -> None:
        if self._declared:
            return
        if not self._lenient:
            raise InputError(
                f"What likelihood the loss stands for that {self._source} gives is not known: the model's outputs and "
                f"the batch have nothing to compare it with. {_DECLARE}"
            )
        logger.warning(
            f"The loss of {self._source} is taken to be the mean of a negative log-likelihood in nats. If it is, "
            "ScoreVITrainingArguments(loss_is_likelihood=True) says so; a focal, weighted or smoothed loss has no "
            "posterior."
        )


_SQUARED, _CROSS, _BINARY = "mean squared error", "cross-entropy", "binary cross-entropy"
_DECLARE = (
    "If it is the mean of a negative log-likelihood in nats, say so with "
    "ScoreVITrainingArguments(loss_is_likelihood=True), and of how many terms with PosteriorConfig(num_data=...)."
)
