"""`PosteriorConfig`: the posterior, its prior and the likelihood's scale, as a user chooses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch.nn import Parameter

from ..numbers import real_number, whole_number
from .families import FAMILIES, PRECISION_RANGE

__all__ = ["PosteriorConfig"]

_NOISE = ("auto", "window", "model", "channel", "horizon", "element")
# Whose inverse square, or whose product with a number of data, float32 can hold.
_BOUNDS = {"prior_std": (1e-9, 1e15), "temperature": (1e-15, 1e15), "init_std": (1e-15, 1e15)}
_MAY_BE_AUTO = ("prior_std", "temperature")
Target = str | Sequence[str] | Callable[[str, Parameter], bool]


@dataclass
class PosteriorConfig:
    """
    The posterior to be learned: its family, which weights it covers, the prior and the likelihood's scale.

    Args:
        family (`str`, defaults to `"isotropic"`):
            `"isotropic"`: one precision a tensor, no memory. `"diagonal"`: one precision a weight, shrunk towards the
            tensor's by what the run itself shows of signal and noise. `"block_diagonal"`: dense r×r blocks along each
            matrix's smaller side, made for LoRA. `"low_rank"`: diagonal plus rank `rank`, per tensor. `"full"`: dense
            within each tensor, for heads and small models. Weights of different tensors are always independent.
        target (`str`, list of `str`, or callable, defaults to `"trainable"`):
            The Bayesian weights. `"trainable"`: all that require grad (on a PEFT model, the adapter's). A list of
            names or globs of modules or parameters (`["classifier", "vit.layers.11.*"]`). A callable `(name,
            parameter) -> bool`.
        exclude (list of `str`, *optional*):
            Names or globs, as in `target`, of weights that stay deterministic.
        prior_mean (`str`, defaults to `"initial"`):
            `"initial"`: the weights the model has when the trainer is built; weights that `from_pretrained` had to
            initialise afresh (a new head) are centred at zero. `"zero"`: zero everywhere.
        prior_std (`float` or `"auto"`, defaults to `"auto"`):
            Standard deviation of the prior, in units of the weights. `"auto"`: one a tensor, by empirical Bayes.
        temperature (`float` or `"auto"`, defaults to `"auto"`):
            Temperature of the posterior (that of `calibrate` is of the predictive's logits): the likelihood enters
            with `num_data / temperature` terms. 1 is Bayes' rule; smaller is a colder, more
            concentrated posterior. `"auto"`: `min(1, num_data / (c · number of Bayesian weights))`, without which the
            KL of many weights outweighs few data and the posterior collapses onto the prior; c is 10 for forecasters,
            which are usually trained from random weights, and otherwise 1.
        num_data (`int`, *optional*):
            Number of terms of the likelihood, of which the loss is the mean. Default: the length of the training set,
            times the outputs per example that a regression's or forecaster's loss is a mean over. Overlapping windows
            of a series are no independent data: those of `SlidingWindows` count each observed value once.
        noise_variance (`float` or `str`, defaults to `"auto"`):
            Variance of the Gaussian likelihood behind a mean-squared-error loss, in squared units of the target: a
            number, or learned from the residuals: one for the `"model"`, each `"channel"` (or target), each step of
            the `"horizon"`, or each `"element"` (step and channel). `"window"`: one for the model in the likelihood of
            the weights, and in the predictive one for each step, proportional to the variance of the window that the
            forecast is made from. `"auto"`: `"window"` for forecasters that normalise their windows, otherwise
            `"model"`. Leave it for other losses; give it for a squared error of a model that is none of transformers'.
        init_std (`float`, defaults to 0.01):
            Standard deviation at the start, relative to each tensor's root-mean-square weight. Start concentrated: a
            wide start collapses onto the prior.
        rank (`int`, defaults to 8):
            R of family `"low_rank"`, which keeps R more numbers a weight; meaningless for others.
    """

    family: str = field(
        default="isotropic",
        metadata={"help": "Gaussian family: isotropic, diagonal, block_diagonal, low_rank or full."},
    )
    target: Target = field(default="trainable", metadata={"help": "Bayesian weights: trainable, or names and globs."})
    exclude: Sequence[str] | None = field(default=None, metadata={"help": "Names and globs that stay deterministic."})
    prior_mean: str = field(default="initial", metadata={"help": "Centre of the prior: initial or zero."})
    prior_std: float | str = field(default="auto", metadata={"help": "Standard deviation of the prior, or auto."})
    temperature: float | str = field(default="auto", metadata={"help": "Temperature of the likelihood, or auto."})
    num_data: int | None = field(default=None, metadata={"help": "Number of terms of the likelihood."})
    noise_variance: float | str | None = field(
        default="auto",
        metadata={
            "help": "Noise variance behind an MSE loss; or learned: auto, window, model, channel, horizon, element."
        },
    )
    init_std: float = field(default=0.01, metadata={"help": "Initial std relative to each tensor's RMS weight."})
    rank: int = field(default=8, metadata={"help": "Rank of family low_rank."})

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"Unknown posterior family {self.family!r}; choose one of {', '.join(sorted(FAMILIES))}.")
        if self.prior_mean not in ("initial", "zero"):
            raise ValueError(f"prior_mean must be 'initial' or 'zero', not {self.prior_mean!r}.")
        if isinstance(self.exclude, str):
            self.exclude = [self.exclude]
        for name, bounds in _BOUNDS.items():
            value = getattr(self, name)
            if not (name in _MAY_BE_AUTO and isinstance(value, str) and value == "auto"):
                otherwise = " or 'auto'" if name in _MAY_BE_AUTO else ""
                setattr(self, name, real_number(name, value, *bounds, otherwise))
        self.rank = whole_number("rank", self.rank)
        if self.num_data is not None:
            self.num_data = whole_number("num_data", self.num_data)
        if self.noise_variance is None:  # in checkpoints of format 1.2 and before
            self.noise_variance = "auto"
        if not (isinstance(self.noise_variance, str) and self.noise_variance in _NOISE):
            otherwise = f" or one of {', '.join(_NOISE)}"
            self.noise_variance = real_number("noise_variance", self.noise_variance, *PRECISION_RANGE, otherwise)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; a callable `target` becomes `"custom"`, for the stored keys to show."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if callable(self.target):
            values["target"] = "custom"
        elif not isinstance(self.target, str):
            values["target"] = list(self.target)
        if self.exclude is not None:
            values["exclude"] = list(self.exclude)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PosteriorConfig:
        """
        Return the configuration that `to_dict` has made `values` of.

        Raises:
            ValueError: unknown fields, which are named, or values that no configuration may have.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown fields in the posterior's configuration: {', '.join(unknown)}.")
        return cls(**values)
