"""The loop that all methods share: sample, evaluate the score, take a step, record."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..numbers import MOST_EXACT, real_number, whole_number
from .gaussian import Gaussian
from .methods import Method, first_gaussian, make_method
from .monitor import Monitor
from .result import FitResult
from .score_vi import ScoreVI
from .target import Target

__all__ = ["fit"]

# Steps rejected in a row (a non-finite score, an unsound result) after which a fit gives up.
_MAX_REJECTED = 50
_DEFAULT_RECORDS = 50
# What no number given can sensibly exceed.
_MOST = 1e15


def fit(
    log_prob: Callable[[Tensor], Tensor] | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
    *,
    dim: int,
    method: str = "score_vi",
    family: str = "full",
    batch_size: int | None = None,
    max_evaluations: int = 20_000,
    init_mean: Tensor | None = None,
    init_std: float | Tensor = 1.0,
    learning_rate: float | None = None,
    proximal_weight: float | str = "auto",
    antithetic: bool = False,
    tolerance: float = 1e-4,
    seed: int = 0,
    progress: bool = True,
    reference: tuple[Tensor, Tensor] | None = None,
    trace_interval: int | None = None,
) -> FitResult:
    """
    Fit a Gaussian to a density of up to a few hundred dimensions.

    Args:
        log_prob: (B, D) → (B,), float64, up to a constant.
        score: (B, D) → (B, D), its gradient by the parameters; may be noisy, if unbiased (`gsm` and `bam` then shrink
            the variance). Without it `log_prob` is differentiated; with both, `log_prob` is only monitored.
        dim: D.
        method: "score_vi", "score_vi_gradient" (the paper's inner loop of gradient steps), "advi", "advi_stl"
            (sticking the landing), "gsm" or "bam".
        family: "full" or "diagonal" covariance.
        batch_size: scores of one step; each method has its default.
        max_evaluations: budget of scores, one for each sample; the last step may fall short of it, never exceed it.
        init_mean: (D,), default zero.
        init_std: standard deviations of the first q, a number or (D,).
        learning_rate: of Adam, for the two ADVI methods and `score_vi_gradient`: it falls linearly to zero over the
            budget. Default 0.05.
        proximal_weight: κ of `score_vi` ("auto": from the measured noise), of `score_vi_gradient` ("auto": 10) or of
            `bam` (reg = 1/(2κ); "auto": reg = B·D/t).
        antithetic: let the two ADVI methods draw samples in pairs ±z (`score_vi` always does).
        tolerance: in nats a dimension. `score_vi` has converged when its estimate of the KL to the fixed point (from
            the remaining noise, and the last step) is below it on two steps in a row. The others do not measure the
            noise: they have converged when q moved by less than it in each of two successive intervals of the trace,
            as it also does with a small learning rate. Zero: use all of the budget.
        seed: of all noise; the global random state is not touched.
        progress: show a progress bar.
        reference: mean (D,) and covariance (D, D) of a Gaussian that the trace compares with.
        trace_interval: evaluations between records, default a 50th of the budget.

    Raises:
        ValueError: an argument is wrong, or the score at the first samples is not finite; the message says which.
        TypeError: a function returned something else than a tensor.
    """
    target = Target(log_prob, score, dim)
    dim, seed = target.dim, whole_number("seed", seed, -MOST_EXACT)
    max_evaluations = whole_number("max_evaluations", max_evaluations)
    batch_size = None if batch_size is None else whole_number("batch_size", batch_size)
    stepper = make_method(method, family, dim, batch_size, max_evaluations, learning_rate, proximal_weight, antithetic)
    if stepper.batch_size > max_evaluations:
        raise ValueError(f"max_evaluations={max_evaluations} is less than one batch of {stepper.batch_size}.")
    tolerance = real_number("tolerance", tolerance, 0, _MOST)
    interval = max_evaluations / _DEFAULT_RECORDS
    if trace_interval is not None:
        interval = real_number("trace_interval", trace_interval, 1e-9, _MOST)
    q = first_gaussian(dim, family, init_mean, init_std)
    monitor = Monitor(target, reference, seed)
    with tqdm(total=max_evaluations, unit="score", disable=not progress, desc=method) as bar:
        q, converged, message = _run(
            target, stepper, monitor, q, max_evaluations, tolerance * dim, interval, seed, bar
        )
    return FitResult(
        q.mean, q.covariance, q.precision, monitor.trace, target.evaluations, converged, message, gaussian=q
    )


def _run(
    target: Target,
    stepper: Method,
    monitor: Monitor,
    q: Gaussian,
    max_evaluations: int,
    tolerance: float,
    interval: float,
    seed: int,
    bar: tqdm,
) -> tuple[Gaussian, bool, str]:
    """Take the steps, and return the last sound q, whether it converged, and the message."""
    monitor.record(q)
    recorded, due = q, interval
    sound = q  # the last one whose scores were finite
    step = rejected = in_a_row = below = 0
    converged, ending = False, f"The budget of {max_evaluations} evaluations is used up"
    while target.evaluations + stepper.batch_size <= max_evaluations:
        z = stepper.noise(seed, step)
        scores = target.score(q.transform(z))
        bar.update(stepper.batch_size)
        finite = bool(scores.isfinite().all())
        if step == 0 and not finite:
            raise ValueError(
                "The score is not finite at samples of the first q. Set init_mean and init_std so that they lie where "
                "the density is positive, or reparametrise it onto all of space."
            )
        step += 1
        new = _try_step(stepper, q, z, scores) if finite else None
        if new is None:
            rejected, in_a_row = rejected + 1, in_a_row + 1
            if in_a_row == _MAX_REJECTED:
                ending = f"Gave up after {in_a_row} rejected steps in a row, at the last sound iterate"
                q = sound
                break
            continue
        sound, q, in_a_row = q, new, 0
        if isinstance(stepper, ScoreVI):
            below = below + 1 if stepper.error() <= tolerance else 0
        if target.evaluations >= due:
            bar.set_postfix({name: f"{v:.4g}" for name, v in monitor.record(q).items() if name != "evaluations"})
            if not isinstance(stepper, ScoreVI):
                below = below + 1 if recorded.kl(q) <= tolerance else 0
            recorded, due = q, target.evaluations + interval
        if below >= 2 and tolerance > 0:
            converged, ending = True, f"Converged after {target.evaluations} evaluations"
            break
    if monitor.trace[-1]["evaluations"] != target.evaluations:
        monitor.record(q)
    if isinstance(stepper, ScoreVI) and not converged and math.isfinite(stepper.error()):
        ending += f"; the estimated KL to the fixed point is {stepper.error():.2g} nats"
    if rejected:
        ending += f"; {rejected} of {step} steps were rejected (a score that was not finite, or an unsound step)"
    return q, converged, ending + "."


def _try_step(stepper: Method, q: Gaussian, z: Tensor, scores: Tensor) -> Gaussian | None:
    """Return the next q, or None where it is not a Gaussian of finite numbers."""
    try:
        new = stepper.step(q, z, scores)
    except LinAlgError:
        return None
    return new if new.is_sound() else None
