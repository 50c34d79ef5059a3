"""Batches of training data, and what is measured on them: batch normalisation's statistics, observation noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import Trainer

from ..batch_norm import refresh_running_statistics
from ..heads import Head
from ..predictive import GaussianNoise
from ..random_state import preserved_random_state
from .likelihood import Likelihood

if TYPE_CHECKING:
    from .evaluating import EvaluatingTrainer

__all__ = ["gather_statistics", "measure_noise", "spread_batches", "training_batches"]

_NOISE_EXAMPLES = 1024  # training examples by which the noise of the predictive is measured


def training_batches(trainer: Trainer, size: int, number: int, whole: bool = False) -> Iterator[dict[str, Any]]:
    """Yield at most `number` batches of a trainer's training data, as `spread_batches` does."""
    dataset: Any = trainer.train_dataset
    collate = trainer.data_collator
    assert dataset is not None
    if isinstance(dataset, datasets.Dataset):
        dataset = trainer._remove_unused_columns(dataset, description="training")
    else:
        collate = trainer._get_collator_with_removed_columns(collate, description="training")
    return spread_batches(dataset, collate, size, number, whole)


def spread_batches(
    dataset: Dataset, collate: Callable[..., Any], batch_size: int, number: int, whole: bool = False
) -> Iterator[dict[str, Any]]:
    """
    Yield at most `number` batches, spread evenly over `dataset` (its first ones if it has no length): the same
    whenever they are asked for, in every process, and with no trace in the global random states, whatever augmentation
    draws.

    Args:
        whole: whether a last batch that is smaller counts; one of a single example would have no variance.
    """
    sized = hasattr(dataset, "__len__")
    if sized:
        length, wanted = len(dataset), number * batch_size  # type: ignore[arg-type]
        rows: Sequence[int] = range(0, length, max(1, length // wanted))
        if whole:
            rows = [i * length // wanted for i in range(wanted)] if wanted < length else range(length)
        dataset = Subset(dataset, rows)
    drop_last = not whole and (not sized or len(dataset) > batch_size)  # type: ignore[arg-type]
    loader = DataLoader(dataset, batch_size, collate_fn=collate, drop_last=drop_last, generator=torch.Generator())
    with preserved_random_state(seed=0):
        yield from islice(loader, number)


def gather_statistics(trainer: EvaluatingTrainer, model: nn.Module, batches: Iterable[Any]) -> None:
    """Gather batch normalisation's running statistics for the weights that are in place in `model`."""
    with trainer.compute_loss_context_manager():
        refresh_running_statistics(model, (trainer._prepare_inputs(batch) for batch in batches))


def measure_noise(
    trainer: EvaluatingTrainer, head: Head, likelihood: Likelihood, models: Iterator[nn.Module], number: int
) -> None:
    """
    Estimate the observation noise from residuals of the posterior-mean prediction on training examples. Those of
    training passes, from which the likelihood's is learned, contain the variance of draws and dropout.

    The mean is that of few draws; what their variance adds to its squared residuals is taken off.

    Args:
        models: the model with the weights of one draw after another.
        number: number of draws.
    """
    noise, model = likelihood.noise, trainer._plain_model()
    assert noise is not None
    size = trainer.args.per_device_eval_batch_size
    rows = training_batches(trainer, size, -(-_NOISE_EXAMPLES // size))
    batches: list[dict[str, Any]] = [trainer._prepare_inputs(batch) for batch in rows]  # type: ignore[misc]
    draws: list[list[Tensor]] = [[] for _ in batches]
    scales: list[Tensor] = []
    training = model.training
    model.eval()
    try:
        for draw, drawn in enumerate(models):
            with torch.no_grad(), trainer.compute_loss_context_manager():
                for forecasts, inputs in zip(draws, batches, strict=True):
                    outputs = drawn(**inputs)
                    if not head.predicts(outputs):  # a module that the user wrote: what was learned will have to do
                        return
                    forecasts.append(head.predicted(outputs).float())
                    if likelihood.windowed and not draw:
                        scales.append(outputs["scale"])
    finally:
        model.train(training)
    squares = []
    for forecasts, inputs in zip(draws, batches, strict=True):
        stacked = torch.stack(forecasts)
        target = head.observed(inputs[head.target]).reshape(stacked.shape[1:])
        squares.append((stacked.mean(0) - target).square() - stacked.var(0) / number)
    granularity = "window" if likelihood.windowed else noise.granularity
    scale = torch.cat(scales) if likelihood.windowed else None
    likelihood.measured = GaussianNoise.fit(torch.cat(squares), granularity, scale)
