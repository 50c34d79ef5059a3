"""Draws that stand in the weights of a model in training: nothing takes them for the mean."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..posterior import Drawn, Posterior

__all__ = ["Weights", "refusing_calls"]

_SENTENCE = (
    "The model's weights are a draw of the posterior at the moment, not the mean, and would be {} as if they were. Do "
    "so between steps, in a callback for instance; what runs within a pass (a loss, a hook) sees draws."
)


class Weights:
    """The weights of a model in training, of which one thread at a time makes a draw, or saves the mean."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @contextmanager
    def drawn(self, model: nn.Module, posterior: Posterior, seed: int, scale: float = 1.0) -> Iterator[Drawn]:
        """Draw as `Posterior.sampled` does. Inside the `with`, `state_dict` has the mean, and copying is refused."""
        with self._lock:
            handle = model.register_state_dict_post_hook(_Refusal(posterior))
            try:
                with posterior.sampled(seed, scale) as draw:
                    yield draw
            finally:
                handle.remove()

    @contextmanager
    def mean(self, posterior: Posterior) -> Iterator[None]:
        """
        Keep the mean in the weights inside the `with`; waits for another thread's draw.

        Raises:
            RuntimeError: this thread has a draw in them.
        """
        with self._lock:
            if posterior.drawn:
                raise RuntimeError(_SENTENCE.format("saved"))
            yield


@contextmanager
def refusing_calls(model: nn.Module) -> Iterator[None]:
    """Refuse this thread's calls of `model` inside the `with`, while draws are evaluated in twins of it."""
    this = id(model), threading.get_ident()  # not the model, which in a twin's hook would be the twin

    def refuse(called: nn.Module, args: Any) -> None:
        if (id(called), threading.get_ident()) == this:
            raise RuntimeError(
                f"A draw of the posterior is evaluated, and self.model, a {type(called).__name__}, was called, which "
                "is the mean. Call the `model` that compute_loss and prediction_step are given."
            )

    handle = model.register_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


class _Refusal:
    """Raises if a model that holds it is copied or pickled."""

    def __init__(self, posterior: Posterior | None) -> None:
        self._posterior = posterior

    @torch.no_grad()
    def __call__(self, model: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        """Put the mean into a model's `state_dict`, of which this is a hook."""
        posterior = self._posterior
        if posterior is None or not posterior.drawn:
            return
        if posterior.shards.split:
            raise RuntimeError(_SENTENCE.format("saved"))
        means = {p.data_ptr(): m for p, m in zip(posterior.params, posterior.mean, strict=True)}
        for name, value in state.items():  # of tied weights all
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.data_ptr() in means:
                state[name] = means[value.data_ptr()]

    # An interrupt may have left it behind, where no draw stands any more.

    def __deepcopy__(self, memo: Any) -> _Refusal:
        if self._posterior is not None and self._posterior.drawn:
            raise RuntimeError(_SENTENCE.format("copied"))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._posterior is not None and self._posterior.drawn:
            raise RuntimeError(_SENTENCE.format("pickled"))
        return _Refusal, (None,)
