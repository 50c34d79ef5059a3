"""
A normalising flow as q, fitted by gradient steps on the objective of arXiv 2602.05873, which asks for "richer
families".

    mean_b ‖∇log q(θ_b) − ŝ_b‖²_W + 4κ mean_b [log q_t(θ_b) − log q(θ_b)],      θ_b ~ q_t,  W = Var q_t by coordinate

Samples and scores of the frozen q_t are reused over the inner steps; the second term estimates 4κ KL(q_t‖q) on them.
The score enters linearly, as for a Gaussian: its noise biases nothing. The flow is zuko's (MIT licence).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..numbers import MOST_EXACT, whole_number
from ..random_state import cuda_devices, preserved_random_state
from .methods import first_gaussian
from .target import Target

if TYPE_CHECKING:
    from zuko.flows import Flow

__all__ = ["FlowResult", "fit_flow"]

_INNER_STEPS = 5
_MAX_REJECTED = 50
_RECORDS = 20
_ELBO_SAMPLES = 512


@dataclass(frozen=True)
class FlowResult:
    """
    A flow fitted to a density, float64.

    Attributes:
        flow: over (θ − `location`)/`scale`, zuko's module.
        location, scale: (D,), of the first q.
        trace: dicts of "evaluations" and, where log_prob is known, "negative_elbo" (nats, from draws of its own).
        evaluations: scores evaluated.
        message: why the fit ended.
    """

    flow: Flow = field(repr=False)
    location: Tensor
    scale: Tensor
    trace: list[dict[str, float]]
    evaluations: int
    message: str

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Return (n, D) draws, the same for the same seed; the global random state is not touched."""
        with preserved_random_state(*cuda_devices(), seed=seed):
            return self.location + self.scale * self.flow().sample((n,))

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Return log q(x) for rows x, (B, D) → (B,)."""
        standard = (x.to(torch.float64) - self.location) / self.scale
        return self.flow().log_prob(standard) - self.scale.log().sum()


def fit_flow(
    log_prob: Callable[[Tensor], Tensor] | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
    *,
    dim: int,
    flow: Flow | None = None,
    batch_size: int = 128,
    max_evaluations: int = 20_000,
    init_mean: Tensor | None = None,
    init_std: float | Tensor = 1.0,
    learning_rate: float = 5e-3,
    proximal_weight: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> FlowResult:
    """
    Fit a normalising flow to a density of a few dimensions.

    Args:
        log_prob, score, dim, max_evaluations, init_mean, init_std, seed, progress: as for `fit`; the first q is about
            N(init_mean, init_std²).
        flow: a zuko flow over `dim` numbers; its density must be twice differentiable (no splines' kinks, no ReLU).
            Default: masked autoregressive, three transforms, for at least two dimensions.
        batch_size: samples of an outer step.
        learning_rate: Adam's, over all of the fit; it falls linearly to zero.
        proximal_weight: κ.

    Raises:
        ImportError: zuko is not installed.
        ValueError: an argument is wrong, or the first score is not finite; the message says which.
    """
    target = Target(log_prob, score, dim)
    dim, seed = target.dim, whole_number("seed", seed, -MOST_EXACT)
    max_evaluations = whole_number("max_evaluations", max_evaluations)
    batch_size = whole_number("batch_size", batch_size)
    if batch_size < 2 or batch_size > max_evaluations:
        raise ValueError(f"batch_size must be between 2 and max_evaluations, not {batch_size!r}.")
    for name, value in (("learning_rate", learning_rate), ("proximal_weight", proximal_weight)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value!r}.")
    first = first_gaussian(dim, "diagonal", init_mean, init_std)
    with preserved_random_state(*cuda_devices(), seed=seed):
        model = (_default_flow(dim) if flow is None else copy.deepcopy(flow)).double()
        result = FlowResult(model, first.mean, first.scale, [], 0, "")
        message = _run(target, result, batch_size, max_evaluations, learning_rate, proximal_weight, seed, progress)
    return FlowResult(model.eval(), first.mean, first.scale, result.trace, target.evaluations, message)


def _default_flow(dim: int) -> Flow:
    try:
        from zuko.flows import MAF
    except ImportError as error:
        raise ImportError("fit_flow needs zuko: pip install 'hf_scorevi[flows]'.") from error
    if dim == 1:
        raise ValueError("in one dimension the default flow is a Gaussian; give flow=, or call fit.")
    # Smooth activations: the objective differentiates the density twice.
    return MAF(dim, transforms=3, hidden_features=(32, 32), activation=nn.SiLU)


def _run(
    target: Target,
    result: FlowResult,
    batch_size: int,
    max_evaluations: int,
    learning_rate: float,
    kappa: float,
    seed: int,
    progress: bool,
) -> str:
    """Take the steps, which change the flow in place, and return the message."""
    flow, scale = result.flow, result.scale
    outer = max_evaluations // batch_size
    adam = torch.optim.Adam(flow.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, outer * _INNER_STEPS)
    rejected = 0
    with tqdm(total=max_evaluations, unit="score", disable=not progress, desc="score_vi, flow") as bar:
        for step in range(outer):
            if step % max(1, outer // _RECORDS) == 0:
                bar.set_postfix(_record(target, result, seed))
            with torch.no_grad():
                x = flow().sample((batch_size,))
                frozen = flow().log_prob(x)
            # In the flow's own coordinates the score is scale times as large.
            scores = target.score(result.location + scale * x) * scale
            bar.update(batch_size)
            if not bool(scores.isfinite().all()):
                if step == 0:
                    raise ValueError(
                        "The score is not finite at samples of the first q. Set init_mean and init_std so that they "
                        "lie where the density is positive, or reparametrise it onto all of space."
                    )
                rejected += 1
                if rejected == _MAX_REJECTED:
                    return f"Gave up after {rejected} batches with a score that was not finite."
                continue
            weight = x.var(0)
            for _ in range(_INNER_STEPS):
                adam.zero_grad()
                _objective(flow, x, scores, weight, frozen, kappa).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(flow.parameters(), 10.0, error_if_nonfinite=True)
                adam.step()
                schedule.step()
    _record(target, result, seed)
    ending = f"; {rejected} batches had a score that was not finite" if rejected else ""
    return f"The budget of {max_evaluations} evaluations is used up{ending}."


def _objective(flow: Flow, x: Tensor, scores: Tensor, weight: Tensor, frozen: Tensor, kappa: float) -> Tensor:
    leaf = x.clone().requires_grad_()
    log_q = flow().log_prob(leaf)
    (own,) = torch.autograd.grad(log_q.sum(), leaf, create_graph=True)
    matching = (weight * (own - scores).square()).sum(1).mean()
    return matching + 4 * kappa * (frozen - log_q).mean()


def _record(target: Target, result: FlowResult, seed: int) -> dict[str, float]:
    figures: dict[str, float] = {"evaluations": target.evaluations}
    if target.has_log_prob:
        x = result.sample(_ELBO_SAMPLES, seed + 1)
        figures["negative_elbo"] = (result.log_prob(x) - target.log_prob(x)).mean().item()
    result.trace.append(figures)
    return {"negative_elbo": figures.get("negative_elbo", float("nan"))}
