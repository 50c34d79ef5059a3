"""`TrainingArguments` plus what score-matching variational inference adds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from transformers import TrainingArguments

from ..inference import InnerLoop
from ..numbers import plain, real_number, whole_number
from .best_metric import direction_of

__all__ = ["ScoreVITrainingArguments"]

_OBJECTIVES = ("score", "elbo", "elbo_stl")
_UPDATES = ("closed_form", "gradient")
_NORMS = ("precision", "none")
_PROXIMALS = ("forward", "reverse")


@dataclass
class ScoreVITrainingArguments(TrainingArguments):
    """
    Everything that `transformers.TrainingArguments` takes, and:

    Args:
        > For everybody

        curvature_interval (`int`, defaults to 10):
            Optimizer steps from one curvature step to the next. On a curvature step each micro-batch is run twice, at
            +ε and −ε, and the precisions move: a fraction `1 / curvature_interval` more time. Steps between are one
            forward and one backward.
        mc_samples (`int`, defaults to 1):
            Weight samples per micro-batch and step; each costs a forward and a backward.
        share_noise (`bool`, defaults to `False`):
            Use one draw of the weights for all micro-batches and processes of an optimizer step, so that the result
            does not depend on how its batch is split. Fresh draws are better: more samples for nothing.
        loss_is_likelihood (`bool`, defaults to `False`):
            Declare that a loss of your own (`compute_loss_func`, an overridden `compute_loss`, that of a module you
            wrote) is the mean over its micro-batch of a negative log-likelihood in nats. Without it such a loss is
            compared, in the first steps, with the cross-entropy or squared error of the model's outputs, and refused
            where it is another. `PosteriorConfig(num_data=...)` declares the number of terms, if not one an example.

        > For the curvature steps

        proximal_weight (`float`, defaults to 2.0):
            κ, how strongly a new posterior is held to the last one.
        proximal_growth (`float`, defaults to 0.0):
            Growth of κ per curvature step.
        update (`str`, defaults to `"closed_form"`):
            How the minimiser of a curvature step is found: `"closed_form"`, or `"gradient"`, the paper's `inner_steps`
            steps of Adam. Leave the default for a `low_rank` posterior, which has a single way.

        > For `update="gradient"`

        inner_steps (`int`, defaults to 10):
            Steps of Adam on log λ at each curvature step.
        inner_learning_rate (`float`, defaults to 0.05):
            Learning rate of these steps.
        proximal (`str`, defaults to `"forward"`):
            The proximal term: KL(q_t‖q), or KL(q‖q_t) with `"reverse"`.
        score_norm (`str`, defaults to `"precision"`):
            The norm of the score's error: weighted by 1/λ_t, or not at all with `"none"`.

        > For the ELBO baselines

        objective (`str`, defaults to `"score"`):
            What moves the posterior: `"score"`, score matching with a proximal penalty (arXiv 2602.05873). The
            baselines `"elbo"` (ADVI, Bayes by Backprop) and `"elbo_stl"` (sticking the landing) move it by Adam on
            log σ at every step, with the mean's learning rate.
        antithetic (`bool`, defaults to `False`):
            For the baselines: run each sample as a pair ±ε, at twice the cost. Curvature steps of `"score"` always do.

        > For evaluation

        eval_num_samples (`int`, defaults to 16):
            Posterior draws that `evaluate()` and `predict()` average over.
        batch_norm_batches (`int`, defaults to 50):
            Training batches, spread over the data, that batch normalisation's running statistics are gathered from
            before anything is evaluated or saved, with the mean's weights: training gathers them under draws. 0 leaves
            them as they are. Models without batch normalisation pay nothing.
        batch_norm_per_draw (`bool`, defaults to `False`):
            In `evaluate()` and `predict()`, gather them for each draw as well: `eval_num_samples` times
            `batch_norm_batches` more forward passes an evaluation.
    """

    curvature_interval: int = field(
        default=10, metadata={"help": "Optimizer steps from one curvature step (+1 pass each way) to the next."}
    )
    mc_samples: int = field(default=1, metadata={"help": "Weight samples per micro-batch and step."})
    share_noise: bool = field(
        default=False, metadata={"help": "One weight draw for all micro-batches and processes of a step."}
    )
    loss_is_likelihood: bool = field(
        default=False, metadata={"help": "A loss of your own is the mean of a negative log-likelihood in nats."}
    )

    proximal_weight: float = field(default=2.0, metadata={"help": "Proximal weight kappa."})
    proximal_growth: float = field(default=0.0, metadata={"help": "Growth of kappa per curvature step."})
    update: str = field(default="closed_form", metadata={"help": "How the step is solved: closed_form or gradient."})

    inner_steps: int = field(default=10, metadata={"help": "Inner steps of update=gradient."})
    inner_learning_rate: float = field(default=0.05, metadata={"help": "Adam's learning rate in update=gradient."})
    proximal: str = field(
        default="forward", metadata={"help": "Proximal term of update=gradient: forward or reverse."}
    )
    score_norm: str = field(default="precision", metadata={"help": "Norm of update=gradient: precision or none."})

    objective: str = field(default="score", metadata={"help": "What moves the posterior: score, elbo or elbo_stl."})
    antithetic: bool = field(default=False, metadata={"help": "Pairs at every step, for the ELBO baselines."})

    eval_num_samples: int = field(default=16, metadata={"help": "Posterior draws that evaluation averages over."})
    batch_norm_batches: int = field(
        default=50, metadata={"help": "Training batches for batch normalisation's statistics; 0 leaves them alone."}
    )
    batch_norm_per_draw: bool = field(
        default=False, metadata={"help": "Gather batch normalisation's statistics for each draw of an evaluation."}
    )

    def __post_init__(self) -> None:
        for f in fields(self):  # numpy's numbers, of a search perhaps, could not be written with the checkpoint
            setattr(self, f.name, plain(getattr(self, f.name)))
        # The base class knows of losses only that less is better, and would keep the worst model.
        self.direction_is_assumed = False
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better, self.direction_is_assumed = direction_of(self.metric_for_best_model)
        super().__post_init__()
        # For losses of a user's own, of which the base class would multiply some by the number of processes. Here each
        # is the mean over a micro-batch, and these are averaged.
        self.average_tokens_across_devices = False
        choices = {"objective": _OBJECTIVES, "update": _UPDATES, "proximal": _PROXIMALS, "score_norm": _NORMS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}; choose one of {', '.join(known)}.")
        for name in ("curvature_interval", "mc_samples", "inner_steps", "eval_num_samples"):
            setattr(self, name, whole_number(name, getattr(self, name)))
        self.batch_norm_batches = whole_number("batch_norm_batches", self.batch_norm_batches, least=0)
        if self.batch_norm_per_draw and not self.batch_norm_batches:
            raise ValueError("batch_norm_per_draw needs batch_norm_batches to gather statistics from.")
        for name in ("inner_learning_rate", "proximal_weight"):
            setattr(self, name, real_number(name, getattr(self, name), 1e-15, 1e15))
        self.proximal_growth = real_number("proximal_growth", self.proximal_growth, 0, 1e15)
        if self.batch_eval_metrics:
            raise ValueError("batch_eval_metrics is not supported: calibration needs all predictions at once.")
        if self.label_smoothing_factor:
            raise ValueError(
                "label_smoothing_factor is refused: a smoothed cross-entropy is not the likelihood of any data, so it "
                "has no posterior. Set it to 0; the posterior predictive does not need it."
            )

    def inner_loop(self) -> InnerLoop | None:
        """Return the inner loop of `update="gradient"`, `None` for the closed form."""
        if self.update == "closed_form":
            return None
        return InnerLoop(self.inner_steps, self.inner_learning_rate, self.score_norm, self.proximal)  # type: ignore[arg-type]
