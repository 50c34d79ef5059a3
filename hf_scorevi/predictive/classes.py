"""The predictive of classes: averages over draws, and scores against labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..heads import IGNORED
from ..metrics.reliability import bin_edges
from .moments import Moments
from .outputs import PredictiveOutput

__all__ = [
    "CLASS_SCORES",
    "NUM_BINS",
    "TERM_SUMS",
    "ClassPredictive",
    "LabelsAverage",
    "LabelsPredictive",
    "PredictiveAverage",
    "class_labels",
    "per_example_scores",
    "sum_terms",
]

_CHUNK = 1 << 18  # elements of a table that are worked on at a time
NUM_BINS = 15  # of confidence, of equal width, closed on the right
CLASS_SCORES = ("log_likelihood", "confidence", "correct", "brier")
# For an example with many terms: their number, the sums of their scores, and for each bin of confidence the number of
# terms, the sum of their confidences and the number of correct ones.
TERM_SUMS = ("terms", *CLASS_SCORES, *(f"bin_{kind}_{i}" for kind in ("terms", "confidence", "correct")
                                       for i in range(NUM_BINS)))  # fmt: skip


class PredictiveAverage:
    """
    The predictive distribution of classes, streamed over draws: keeps one (..., classes) table, not one a draw.

    `add` each draw's logits, of shape (..., classes), then read the properties.

    Args:
        temperature: of the averaged probabilities, p^(1/T) normalised: changes `log_probs` and `scores`. The
            uncertainties in nats stay those of the draws.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.num_samples = 0
        self._temperature = temperature
        self._shape: torch.Size | None = None
        self._log_sum = self._entropy_sum = torch.empty(0)

    def add(self, logits: Tensor) -> None:
        """Take in one draw."""
        rows = logits.reshape(-1, logits.shape[-1])
        first = self._shape is None
        if first:
            self._shape = logits.shape
            self._log_sum = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
            self._entropy_sum = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
        for part in _parts(rows):
            log_probs = rows[part].float().log_softmax(-1)
            entropy = _entropy(log_probs)
            log_sum, entropy_sum = self._log_sum[part], self._entropy_sum[part]
            if first:
                log_sum.copy_(log_probs)
                entropy_sum.copy_(entropy)
            else:
                torch.logaddexp(log_sum, log_probs, out=log_sum)
                entropy_sum += entropy
        self.num_samples += 1

    @property
    def log_probs(self) -> Tensor:
        """The logarithms of the probabilities averaged over draws, in the logits' shape."""
        found = torch.empty_like(self._added)
        for part in _parts(found):
            found[part] = self._log_probs(part)
        return found.view(self._shape)  # type: ignore[arg-type]

    @property
    def probs(self) -> Tensor:
        """The probabilities averaged over draws."""
        return self.log_probs.exp()

    @property
    def entropy(self) -> Tensor:
        """The entropy of the averaged probabilities, in nats: total uncertainty."""
        total = self._added
        return torch.cat([_entropy(total[part].log_softmax(-1)) for part in _parts(total)]).view(self._places)

    @property
    def expected_entropy(self) -> Tensor:
        """The entropy averaged over draws, in nats: the part that better knowledge of the weights would not remove."""
        return (self._entropy_sum / self.num_samples).view(self._places)

    @property
    def mutual_information(self) -> Tensor:
        """entropy − expected entropy, in nats: the part that comes from the weights' uncertainty (BALD)."""
        return (self.entropy - self.expected_entropy).clamp_min(0)

    def scores(self, labels: Tensor) -> Tensor:
        """
        Return `CLASS_SCORES` of each term, (*labels.shape, 4), zeros where the label is `IGNORED`.

        Args:
            labels: in the logits' shape without that of the classes.
        """
        flat = labels.reshape(-1)
        if flat.shape != self._added.shape[:1]:
            raise ValueError(
                f"The labels have the shape {tuple(labels.shape)}, and the logits {tuple(self._shape or ())}: there "
                "has to be one label at each place."
            )
        judged = (flat != IGNORED).nonzero().squeeze(1) if flat.numel() else flat.long()
        scores = torch.zeros(len(flat), len(CLASS_SCORES), device=self._added.device)
        for index in judged.split(max(1, _CHUNK // self._added.shape[1])):
            scores[index] = per_example_scores(self._log_probs(index), flat[index])
        return scores.view(*labels.shape, len(CLASS_SCORES))

    def _log_probs(self, part: slice | Tensor) -> Tensor:
        if self.num_samples == 1 and self._temperature == 1:
            return self._added[part]
        # Normalised, so that rounding over many draws cannot add up; division by the temperature comes before it.
        return (self._added[part] / self._temperature).log_softmax(-1)

    @property
    def _added(self) -> Tensor:
        if self._shape is None:
            raise ValueError("No draw was added yet.")
        return self._log_sum

    @property
    def _places(self) -> torch.Size:
        assert self._shape is not None
        return self._shape[:-1]


class LabelsAverage:
    """
    The predictive distribution of several independent yes-or-no labels an example, streamed over draws.

    `add` each draw's logits, of shape (..., labels), then read the properties, of the same shape.
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self._sum: Tensor | None = None
        self._entropy_sum: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Take in one draw."""
        probs = logits.float().sigmoid()
        self._sum = probs if self._sum is None else self._sum + probs
        entropy = _binary_entropy(probs)
        self._entropy_sum = entropy if self._entropy_sum is None else self._entropy_sum + entropy
        self.num_samples += 1

    @property
    def logits(self) -> Tensor:
        """Logits whose sigmoid is the predictive."""
        return self.probs.logit(torch.finfo(torch.float32).eps)

    @property
    def probs(self) -> Tensor:
        """Each label's probability, averaged over draws."""
        if self._sum is None:
            raise ValueError("No draw was added yet.")
        return self._sum / self.num_samples

    @property
    def log_probs(self) -> Tensor:
        """The logarithms of `probs`."""
        return self.probs.log()

    @property
    def entropy(self) -> Tensor:
        """The entropy of each label, in nats: total uncertainty."""
        return _binary_entropy(self.probs)

    @property
    def expected_entropy(self) -> Tensor:
        """The entropy of each label, averaged over draws, in nats."""
        assert self._entropy_sum is not None
        return self._entropy_sum / self.num_samples

    @property
    def mutual_information(self) -> Tensor:
        """entropy − expected entropy of each label, in nats."""
        return (self.entropy - self.expected_entropy).clamp_min(0)

    def scores(self, labels: Tensor) -> Tensor:
        """
        Return `CLASS_SCORES` of each label, an example of two classes, (*labels.shape, 4), zeros where it is negative.
        """
        log_probs = _log_no_yes(self.logits.flatten().double())
        flat = labels.reshape(-1).to(log_probs.device)
        given = flat >= 0  # -100 marks a label that nobody gave
        scores = torch.zeros(len(flat), len(CLASS_SCORES), device=log_probs.device)
        scores[given] = per_example_scores(log_probs[given], flat[given].round().long())
        return scores.view(*labels.shape, len(CLASS_SCORES))


class _Tables:
    """
    What is kept of draws that are probabilities.

    Args:
        average: of their probabilities.
        spread: whether `output` has the standard deviations of the logits, for which two tables more are kept.
        samples, logits: whether `output` has each draw's probabilities and logits.
    """

    def __init__(
        self, average: PredictiveAverage | LabelsAverage, *, spread: bool, samples: bool, logits: bool
    ) -> None:
        self._average = average
        self._moments = Moments() if spread else None
        self._samples: list[Tensor] | None = [] if samples else None
        self._logits: list[Tensor] | None = [] if logits else None

    def _keep(self, logits: Tensor, probabilities: Callable[[Tensor], Tensor]) -> None:
        if self._moments is not None:
            self._moments.add(logits)
        if self._samples is not None:
            self._samples.append(probabilities(logits.float()))
        if self._logits is not None:
            self._logits.append(logits.float())

    @property
    def _log_probs(self) -> Tensor:
        return self._average.log_probs

    def output(self) -> PredictiveOutput:
        """Return the prediction, after all draws."""
        average = self._average
        return PredictiveOutput(
            log_probs=self._log_probs,
            entropy=average.entropy,
            expected_entropy=average.expected_entropy,
            mutual_information=average.mutual_information,
            logit_std=None if self._moments is None else self._moments.variance.sqrt(),
            num_samples=average.num_samples,
            samples=None if self._samples is None else torch.stack(self._samples),
            logits=None if self._logits is None else torch.stack(self._logits),
        )


class ClassPredictive(_Tables):
    """
    The predictive of one class at each place (an example, a token, a pixel), from one draw after another.

    Args:
        temperature: of the averaged probabilities.
        class_axis: of the logits that are added, and of the tables that come out.
        by_term: whether an example has several terms, whose scores are summed.
        spread: whether `output` has the standard deviations of the logits, for which two tables more are kept.
        samples, logits: whether `output` has each draw's probabilities and logits.
    """

    _average: PredictiveAverage

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        class_axis: int = -1,
        by_term: bool = False,
        spread: bool = True,
        samples: bool = False,
        logits: bool = False,
    ) -> None:
        super().__init__(PredictiveAverage(temperature), spread=spread, samples=samples, logits=logits)
        self._axis, self._by_term = class_axis, by_term

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of the columns of `scores`."""
        return TERM_SUMS if self._by_term else CLASS_SCORES

    def add(self, logits: Tensor) -> None:
        """Take in the logits of one draw."""
        self._average.add(logits.movedim(self._axis, -1))
        self._keep(logits, lambda table: table.softmax(self._axis))

    @property
    def point(self) -> Tensor:
        """The prediction in a `Trainer`'s form: the logarithms of the averaged probabilities, in the logits' shape."""
        return self._average.log_probs.movedim(-1, self._axis)

    _log_probs = point

    def scores(self, labels: Tensor) -> Tensor:
        """
        Return the scores of each example, (B, `score_names`).

        Args:
            labels: (B,), or with `by_term` (B, ...), in the shape of the logits without their classes.
        """
        if not self._by_term:
            return per_example_scores(self._average.log_probs, labels)
        return sum_terms(self._average.scores(labels), labels != IGNORED)


class LabelsPredictive(_Tables):
    """
    The predictive of several independent yes-or-no labels an example, from one draw after another.

    Args:
        spread, samples, logits: as in `ClassPredictive`.
    """

    score_names = TERM_SUMS
    _average: LabelsAverage

    def __init__(self, *, spread: bool = True, samples: bool = False, logits: bool = False) -> None:
        super().__init__(LabelsAverage(), spread=spread, samples=samples, logits=logits)

    def add(self, logits: Tensor) -> None:
        """Take in the logits of one draw, (B, labels)."""
        self._average.add(logits)
        self._keep(logits, torch.sigmoid)

    @property
    def point(self) -> Tensor:
        """The prediction in a `Trainer`'s form: logits whose sigmoid is the predictive, (B, labels)."""
        return self._average.logits

    def scores(self, labels: Tensor) -> Tensor:
        """Return the scores of each example, (B, `score_names`), each label being a term."""
        labels = labels.reshape(self._average.probs.shape)
        return sum_terms(self._average.scores(labels), labels >= 0)


@torch.no_grad()
def per_example_scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """
    Return four scores of each example of a batch, (B, 4), float32 on `log_probs`' device:

    log probability of the label in nats, confidence (the largest probability), 1 where its class (the first of equal
    ones) is the label and 0 elsewhere, Brier score (sum over classes, 0 to 2).

    Args:
        log_probs: (B, K), log of probabilities; their softmax is not taken.
        labels: (B,), whole class numbers.

    Raises:
        ValueError: wrong shapes, labels that are no classes.
    """
    if log_probs.dim() != 2 or labels.shape != log_probs.shape[:1]:
        raise ValueError(
            f"log_probs and labels must have the shapes (B, K) and (B,), not {tuple(log_probs.shape)} and "
            f"{tuple(labels.shape)}."
        )
    labels = class_labels(labels, log_probs)
    log_probs = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    index = labels.unsqueeze(1)
    log_likelihood = log_probs.gather(1, index).squeeze(1)
    confidence, prediction = log_probs.max(1)
    errors = log_probs.exp().scatter_add_(1, index, torch.full_like(index, -1, dtype=log_probs.dtype))
    brier = errors.square_().sum(1)
    return torch.stack([log_likelihood, confidence.exp(), (prediction == labels).to(brier), brier], dim=1).float()


def class_labels(labels: Tensor, log_probs: Tensor) -> Tensor:
    """
    Return `labels` (B,) as int64 where `log_probs` (B, K) are.

    Raises:
        ValueError: they are no whole numbers, or no classes. On a GPU such an index would end the process.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, not {labels.dtype}.")
    labels = labels.to(log_probs.device, torch.int64)
    if not torch.all((labels >= 0) & (labels < log_probs.shape[1])):
        raise ValueError(
            f"labels must be classes 0 to {log_probs.shape[1] - 1}, not {labels.min().item()} to "
            f"{labels.max().item()}; leave out ignored examples (label -100)."
        )
    return labels


@torch.no_grad()
def sum_terms(scores: Tensor, judged: Tensor) -> Tensor:
    """
    Return `TERM_SUMS` of each example, (B, 50), float64.

    Args:
        scores: `CLASS_SCORES` of its terms, (B, ..., 4).
        judged: which of these places are terms, (B, ...).
    """
    judged = judged.to(scores.device).reshape(len(scores), -1)
    values = scores.reshape(*judged.shape, len(CLASS_SCORES)).double()
    addends = judged.double(), values[..., 1] * judged, values[..., 2] * judged
    edges = torch.from_numpy(bin_edges(NUM_BINS)[1:-1]).float().to(scores.device)
    number = torch.bucketize(values[..., 1].float(), edges)
    binned = values.new_zeros(3, len(scores), NUM_BINS)
    for total, addend in zip(binned, addends, strict=True):
        total.scatter_add_(1, number, addend)
    sums = (values * judged.unsqueeze(-1)).sum(1)
    return torch.cat([judged.sum(1, keepdim=True), sums, *binned], dim=1)


def _parts(rows: Tensor) -> Iterator[slice]:
    """Yield slices of rows, few enough that work on them needs little memory."""
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(-1)  # classes of probability zero contribute nothing


def _binary_entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs) + torch.special.entr(1 - probs)


def _log_no_yes(logits: Tensor) -> Tensor:
    """Return the log probabilities of no and yes, (n, 2)."""
    return torch.nn.functional.logsigmoid(torch.stack([-logits, logits], dim=1))
