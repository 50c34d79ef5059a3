"""One evaluation: the predictions and figures of a data set, computed batch by batch and draw by draw."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..batch_norm import RunningStatistics, kept_running_statistics
from ..errors import InputError
from ..heads import Head
from ..predictive import Keep, Predictive, evaluated_predictive
from ..predictive.draws import GROUP_BATCHES, GROUP_BYTES, TABLE_BYTES
from .evaluation_figures import EvaluationFigures
from .grouping import GroupedBatches

if TYPE_CHECKING:
    from .evaluating import EvaluatingTrainer

__all__ = ["Evaluated", "EvaluationRun", "draw_counts"]


def draw_counts(num_samples: int) -> list[int]:
    """
    Return the numbers of draws at which figures of classes are computed: powers of two below `num_samples`, and
    `num_samples`.
    """
    return [2**i for i in range((num_samples - 1).bit_length())] + [num_samples]


@dataclass
class Evaluated:
    """
    A batch while the draws are averaged.

    Attributes:
        head: of the model.
        inputs: from the loader.
        labels: of the batch, as `Trainer` returns them; `None` if there are none.
        target: the labels or numbers that the predictive is scored against.
        predictive: collects the draws.
        scores: of each example, by the number of draws.
        mean_scores: scores under the mean's weights alone; `None` without a target.
        mean: log probabilities of the mean, (B, K), of a classifier.
        losses: of the draws.
    """

    head: Head
    inputs: dict[str, Any]
    labels: Any
    target: Any
    predictive: Predictive
    mean_scores: Tensor | None
    mean: Tensor | None
    scores: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)


class EvaluationRun:
    """
    The state of one evaluation.

    Args:
        trainer: whose model is evaluated.
        loader: of the batches; `None` for a single batch.
        keep: what `Trainer.predict` returns for each example besides its prediction; `None` for nothing.
    """

    def __init__(self, trainer: EvaluatingTrainer, loader: Any = None, keep: Keep | None = None) -> None:
        self._trainer = trainer
        self._keep = keep
        self._counts = draw_counts(trainer.args.eval_num_samples)
        self._done: deque[Evaluated] = deque()
        self._outputs: list[Any] = []
        self.statistics: list[RunningStatistics] = []
        head = trainer.head
        # Forecasts are kept for each draw, and each is about as large as its context.
        limit = GROUP_BYTES // (trainer.args.eval_num_samples if head.forecasts else 1)
        self.batches = None if loader is None else GroupedBatches(loader, GROUP_BATCHES, limit, trainer._largest)
        self.figures = EvaluationFigures()

    def step(self, model: nn.Module, inputs: dict[str, Any], loss_only: bool) -> tuple[Tensor | None, Any, Any]:
        """Return loss, predictions and labels of a batch, as `Trainer.prediction_step` does, and keep its scores."""
        if not self._done or self._done[0].inputs is not inputs:
            group: Sequence[Any] = [] if self.batches is None else self.batches.group
            place = next((i for i, batch in enumerate(group) if batch is inputs), None)
            self._evaluate(model, [inputs] if place is None else group[place:])
        batch = self._done.popleft()
        needed = not loss_only or batch.mean is not None
        point: Any = batch.predictive.point if needed else None  # type: ignore[union-attr]
        self._take(batch, point)
        return (_loss(batch), None, None) if loss_only else (_loss(batch), point, batch.labels)

    def _evaluate(self, model: nn.Module, group: Sequence[dict[str, Any]]) -> None:
        """Evaluate the first batches of a group: as many as fit into memory with their tables."""
        trainer = self._trainer
        trainer._follow_model()
        self._done.clear()
        held = following = 0
        for inputs in group:
            if self._done and held + following > TABLE_BYTES:
                break
            batch, own = self._begin(model, inputs)
            self._done.append(batch)
            following = trainer._largest(own)
            held += following
        for draw, drawn in enumerate(trainer._drawn_models(trainer.args.eval_num_samples, model)):
            with kept_running_statistics(drawn) if self.statistics else nullcontext():
                if self.statistics:
                    self.statistics[draw].restore(drawn)
                for batch in self._done:
                    loss, values, _ = trainer._pass_over(drawn, batch.inputs)
                    batch.predictive.add(*values)
                    if loss is not None:
                        batch.losses.append(loss)
                    del values  # or they would be held during the next pass
                    if batch.mean_scores is not None and draw + 1 in self._judged(batch.head):
                        batch.scores.append(batch.predictive.scores(batch.target))  # type: ignore[union-attr]

    def _judged(self, head: Head) -> Sequence[int]:
        """Return the numbers of draws at which a batch is scored."""
        return self._counts if head.likelihood in ("categorical", "bernoulli") else self._counts[-1:]

    def _begin(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Evaluated, int]:
        """Return a batch with its prediction by the mean's weights, and the bytes that its draws will need."""
        trainer = self._trainer
        _, values, prepared = trainer._pass_over(model, inputs)
        head = trainer.head.seen(values[0], prepared.get(trainer.head.target))
        target = _target(head, values[0], prepared)
        how = Keep(noise=trainer._noise, spread=False)
        mean = evaluated_predictive(head, how, target)
        mean.add(*values)
        how = replace(self._keep or how, temperature=trainer._temperature, noise=how.noise)
        is_table = head.task == "classes" and target is not None
        batch = Evaluated(
            head,
            inputs,
            trainer._labels_of(prepared),
            target,
            evaluated_predictive(head, how, target),
            None if target is None else mean.scores(target),  # type: ignore[union-attr]
            mean.point if is_table else None,  # type: ignore[union-attr,arg-type]
        )
        self.figures.begin(head, batch.predictive.score_names)  # type: ignore[union-attr]
        of_draws = trainer.args.eval_num_samples if head.likelihood in ("gaussian", "distribution") else 1
        return batch, sum(value.nbytes for value in values) * of_draws

    def _take(self, batch: Evaluated, point: Any) -> None:
        """Keep what the figures and `predict` need of a batch and its prediction, gathered from all processes."""
        trainer = self._trainer
        gather = trainer.gather_function
        if batch.scores and batch.mean_scores is not None:
            self.figures.add(gather(torch.stack([*batch.scores, batch.mean_scores], dim=1)))
            if batch.mean is not None:
                self.figures.add_tables(gather((point, batch.mean, batch.target)))
        if self._keep is not None and hasattr(batch.predictive, "output"):
            output = batch.predictive.output()
            tensors = trainer.accelerator.pad_across_processes(output.examples_first(), dim=1, pad_index=torch.nan)  # type: ignore[arg-type]
            self._outputs.append(output.replaced(gather(tensors)).to("cpu"))

    def predictive(self) -> Any:
        """Return the predictions kept for all examples, on the CPU; `None` if there are none."""
        outputs, self._outputs = self._outputs, []
        return type(outputs[0]).cat(outputs) if outputs else None


def _target(head: Head, predicted: Tensor, inputs: dict[str, Any]) -> Any:
    """Return the target that a batch's predictive is scored against; `None` if it has none."""
    if head.has_classes:
        labels = head.labels(inputs)
        if labels is None or head.task == "spans":
            return labels
        if head.task != "pixels" and labels[0].shape != predicted.shape[:-1]:
            if head.task == "classes":  # probabilities of classes, say, by which nothing is judged
                return None
            raise InputError(
                f"The labels have the shape {tuple(labels[0].shape)}, and the logits {tuple(predicted.shape)}: there "
                "has to be one label at each place."
            )
        return labels[0]
    target = inputs.get(head.target)
    if not isinstance(target, Tensor):
        return None
    target = head.observed(target)
    fits = head.likelihood == "distribution" or target.numel() == predicted.numel()
    return target if fits else None


def _loss(batch: Evaluated) -> Tensor | None:
    """Return the mean −log p of a batch's terms if they are of several classes, else the loss averaged over draws."""
    if batch.scores and batch.head.has_classes:
        scores = batch.scores[-1]
        if batch.head.task == "classes":
            return -scores[:, 0].mean()
        terms, log_likelihoods = scores[:, :2].sum(0)
        return (-log_likelihoods / terms).float()
    return torch.stack(batch.losses).mean() if batch.losses else None
