"""
Comparison of a loss with the likelihood that the model's head stands for.

A focal, weighted or smoothed loss is not a negative log-likelihood, so what is learned from it is no posterior. Only
its values distinguish it from a cross-entropy, so they are compared: in the first passes of a training if the loss is
the user's, and in one pass if it is that of transformers, which might change.
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

__all__ = ["LossCheck", "is_packaged", "own_loss"]

logger = logging.get_logger(__name__)

# Number of passes compared: the weight of a rare class shows only in a batch that has it.
_PASSES = 50
# Relative difference allowed to the same loss, without and with half precision.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 2e-2
_OWN_PACKAGES = ("transformers", "peft", "hf_scorevi")


def own_loss(trainer: ScoreVITrainer, compute_loss: Any) -> str | None:
    """
    Return the name of what computes the loss; `None` if it is transformers, PEFT or this library.

    Args:
        compute_loss: this library's version of the method.
    """
    if trainer.compute_loss_func is not None:
        return "compute_loss_func"
    given: Any = inspect.unwrap(trainer.compute_loss)  # the method inside a decorator that times or logs it
    if getattr(given, "__func__", given) is not compute_loss:
        return f"{type(trainer).__name__}.compute_loss"
    model = base_of(trainer._plain_model())
    function = vars(model).get("_loss_function") or LOSS_MAPPING.get(getattr(model, "loss_type", None) or "")
    if function is not None and not is_packaged(function):
        return f"the loss_function of {type(model).__name__}"
    return None if is_packaged(type(model)) else type(model).__name__


def is_packaged(thing: Any) -> bool:
    """Return whether a class or function is of transformers, PEFT or this library."""
    return getattr(thing, "__module__", "").split(".")[0] in _OWN_PACKAGES


class _Outputs:
    """A forward hook that keeps a model's outputs. The model can still be copied and pickled."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        self._last = outputs

    def take(self) -> Any:
        """Return the last outputs, and forget them."""
        last, self._last = self._last, None
        return last

    def __deepcopy__(self, memo: Any) -> _Outputs:
        return _Outputs()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Outputs, ()


class LossCheck:
    """
    A comparison of a loss with the likelihood of a head, while a model is trained.

    Args:
        source: what computes the loss, for messages; `None` for transformers' own loss of the model.
        head: what the model predicts.
        counted: whether the user has set the number of terms of the likelihood.
        declared: whether the user has declared a squared error; a loss that cannot be compared is then accepted.
        lenient: whether a loss that cannot be compared is accepted with a warning, since only its author could know.
        half: whether passes are in half precision.
    """

    def __init__(
        self, source: str | None, head: Head, counted: bool, declared: bool, lenient: bool, half: bool
    ) -> None:
        self._source, self.head, self._counted = source, head, counted
        self._declared, self._lenient = declared, lenient
        self._tolerance = _HALF_TOLERANCE if half else _TOLERANCE
        self._left = 1 if source is None else _PASSES
        self._outputs = _Outputs()

    @property
    def is_done(self) -> bool:
        """Whether as many passes as are to be compared have been."""
        return not self._left

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep the outputs of `model` inside the `with` block."""
        handle = model.register_forward_hook(self._outputs)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def compare(self, loss: Tensor, inputs: Mapping[str, Any]) -> None:
        """
        Compare the loss of one pass.

        Args:
            loss: a mean over its micro-batch.
            inputs: of the pass, before the loss removed the labels from them.

        Raises:
            InputError: it is not the head's loss, or there is nothing to compare it with.
        """
        outputs = self._outputs.take()
        if not bool(loss.isfinite()):
            return
        self._left -= 1
        target, value = inputs.get(self.head.target), loss.item()
        likelihoods = self._likelihoods(outputs, inputs)
        if self._source is None:
            self._require_mean(value, likelihoods.get(_BINARY if self.head.likelihood == "bernoulli" else _CROSS))
            return
        if not likelihoods:
            self._left = 0
            self._refuse_unknown()
            return
        for name, expected in likelihoods.items():
            if abs(value - expected) <= self._tolerance * abs(expected) + 1e-6:
                self._refuse_scale(name, target)
                return
        if list(likelihoods) == [_SQUARED] and self.head.likelihood != "gaussian":  # a regression of the user's own
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
        """Return the logits, or whatever else the head predicts."""
        if isinstance(outputs, Tensor):
            return outputs
        for name in (self.head.predictions[0], "logits"):
            found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
            if isinstance(found, Tensor):
                return found
        if isinstance(outputs, tuple | list):
            return next((value for value in outputs if isinstance(value, Tensor) and value.dim()), None)
        return None

    def _likelihoods(self, outputs: Any, inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the losses that a batch may have, by name."""
        head = self.head
        if head.has_classes and not head.is_assumed and head.predicts(outputs):
            labels = head.labels(inputs) or ()
            logits = [head.term_logits(*both) for both in zip(head.all_predicted(outputs), labels, strict=False)]
            pairs = list(zip(logits, labels, strict=True))
            if pairs and all(own.shape[:-1] == label.shape for own, label in pairs):
                ends = [F.cross_entropy(own.float().flatten(0, -2), label.flatten().long()) for own, label in pairs]
                return {_CROSS: torch.stack(ends).mean().item()}
        prediction, target = self._prediction(outputs), inputs.get(head.target)
        if prediction is None or not isinstance(target, Tensor) or not prediction.is_floating_point():
            return {}
        prediction, found = prediction.float(), {}
        if self.head.likelihood == "gaussian":
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

    def _require_mean(self, value: float, expected: float | None) -> None:
        if expected is None or abs(value - expected) <= self._tolerance * abs(expected) + 1e-6:
            return
        raise InputError(
            f"The model's loss is {value:.4g}, where the mean of −log p over the labels is {expected:.4g}: with these "
            "settings it has other terms (a penalty, weights, smoothing), and is the likelihood of no data. Take them "
            "out of the model's config, or give a compute_loss_func that is that mean."
        )

    def _refuse_scale(self, name: str, target: Any) -> None:
        """
        Raise an error unless the number of terms, or the noise, is known for the likelihood that the loss stands for.
        """
        if self.head.likelihood != "gaussian" and name == _SQUARED:
            raise InputError(
                f"The loss that {self._source} gives is the mean squared error of its outputs, which is a likelihood "
                "only with a noise variance: give PosteriorConfig(noise_variance='model'), by which it is learned, or "
                "a number."
            )
        if name == _CROSS and not self.head.is_assumed:
            return  # whose terms are counted
        by_label = name == _BINARY or (name == _CROSS and target.dim() > 1)
        labels = target[0].numel() if by_label else 1
        if labels != (self.head.terms or labels) and not self._counted:
            remedy = "set problem_type='multi_label_classification' in the model's config, or " * (name == _BINARY)
            raise InputError(
                f"The loss that {self._source} gives is a mean over {labels} labels an example, which are so many "
                f"terms of the likelihood: {remedy}give PosteriorConfig(num_data=examples times labels)."
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
