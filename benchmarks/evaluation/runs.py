"""One run: one method on one target with one seed. Nothing that a method does can stop the benchmark."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from benchmarks.evaluation.measures import measure
from benchmarks.targets import Target

LEARNING_RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # ADVI's, as in the GSM paper (arXiv 2307.07849)
TUNED = ("advi", "advi_stl")
DIVERGED = 1.0  # nats above the start; by less, a run may end at another optimum
RECORDS = 200  # of a trace
MARGIN = 0.05  # nats within which a negative ELBO counts as reached

METHODS: dict[str, dict[str, Any]] = {  # name in the report to arguments of `hf_scorevi.blackbox.fit`
    "score_vi": {"method": "score_vi"},
    "score_vi_no_prox": {"method": "score_vi", "proximal_weight": 1e-6},  # the ablation
    "score_vi_gradient": {"method": "score_vi_gradient"},
    "advi": {"method": "advi"},
    "advi_stl": {"method": "advi_stl"},
    "gsm": {"method": "gsm"},
    "bam": {"method": "bam"},
}


@dataclass(frozen=True)
class Settings:
    """What all runs share; `batch_size` None is each method's default."""

    max_evaluations: int = 20_000
    batch_size: int | None = None
    family: str = "full"
    learning_rates: Sequence[float] = LEARNING_RATES


@dataclass
class Run:
    """What one run gave.

    `status` is "ok", "diverged" (worse than its start by DIVERGED), "not finite", or "exception"; `message` says more.
    `measures` are those of `measure`; `start` those of the initial q. `evaluations` counts scores of single points.
    """

    target: str
    group: str
    dim: int
    method: str
    seed: int
    status: str = "ok"
    message: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    evaluations: int = 0
    seconds: float = 0.0
    converged: bool = False
    trace: list[dict[str, float]] = field(default_factory=list)
    learning_rate: float | None = None
    tried: dict[str, float | None] = field(default_factory=dict)  # learning rate to final negative ELBO
    mean: list[float] = field(default_factory=list)
    standard_deviation: list[float] = field(default_factory=list)
    evaluations_to_stl: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Fields with numbers that JSON has: what is not finite becomes None. The trace becomes columns."""
        keys = dict.fromkeys(key for entry in self.trace for key in entry)
        columns = {key: [entry.get(key) for entry in self.trace] for key in keys}
        return _finite({**asdict(self), "trace": columns})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Run":
        """The inverse of `as_json`; numbers that JSON does not have are NaN."""
        columns = values["trace"]
        rows = zip(*columns.values(), strict=True)
        trace = [{k: math.nan if v is None else v for k, v in zip(columns, row, strict=True)} for row in rows]
        measures = {key: math.nan if v is None else v for key, v in values["measures"].items()}
        return cls(**{**values, "trace": trace, "measures": measures})

    @property
    def loss(self) -> float:
        """Negative ELBO for ranking: infinite where a run failed."""
        value = self.measures.get("negative_elbo", math.inf)
        return value if self.status == "ok" and math.isfinite(value) else math.inf


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_once(target: Target, method: str, seed: int, settings: Settings, learning_rate: float | None = None) -> Run:
    """One call of `hf_scorevi.blackbox.fit`, measured; exceptions become a status."""
    from hf_scorevi.blackbox import fit

    run = Run(target.name, target.group, target.dim, method, seed, learning_rate=learning_rate)
    began = time.perf_counter()
    try:
        init = target.init_mean if target.init_mean is not None else torch.zeros(target.dim, dtype=torch.float64)
        run.start = measure(target, init, target.init_std**2 * torch.eye(target.dim, dtype=torch.float64))
        reference = target.reference
        began = time.perf_counter()
        result = fit(
            log_prob=target.log_prob,
            score=target.score,
            dim=target.dim,
            family=settings.family,
            batch_size=settings.batch_size,
            max_evaluations=settings.max_evaluations,
            init_mean=init,
            init_std=target.init_std,
            learning_rate=learning_rate,
            tolerance=0.0,  # everybody uses the whole budget
            seed=seed,
            progress=False,
            trace_interval=max(1, settings.max_evaluations // RECORDS),
            reference=None if reference is None else (reference.mean, reference.covariance),
            **METHODS[method],
        )
        run.seconds = time.perf_counter() - began
        run.evaluations, run.converged = int(result.evaluations), bool(result.converged)
        run.message, run.trace = str(result.message or ""), [dict(entry) for entry in result.trace]
        mean, covariance = result.mean.double(), result.covariance.double()
        run.mean, run.standard_deviation = mean.tolist(), covariance.diagonal().clamp_min(0).sqrt().tolist()
        if not (mean.isfinite().all() and covariance.isfinite().all()):
            run.status = "not finite"
            return run
        run.measures = measure(target, mean, covariance)
        if not run.measures["negative_elbo"] <= run.start["negative_elbo"] + DIVERGED:  # NaN is worse as well
            run.status = "diverged"
    except Exception as error:  # the report's business, whatever it is
        run.status, run.message = "exception", f"{type(error).__name__}: {error}"
        run.seconds = time.perf_counter() - began
    return run


def run_method(build: Callable[[], Target], method: str, seed: int, settings: Settings) -> Run:
    """One method on one target; ADVI tries every learning rate and keeps the lowest final negative ELBO.

    `build` is called for each run, so that a noisy score starts with the same noise. `evaluations`, `seconds` and the
    trace are those of the best learning rate alone: what tuning costs is not counted against ADVI.
    """
    if method not in TUNED:
        return run_once(build(), method, seed, settings)
    runs = [run_once(build(), method, seed, settings, rate) for rate in settings.learning_rates]
    best = min(runs, key=lambda run: run.loss)
    best.tried = {f"{run.learning_rate:g}": run.measures.get("negative_elbo") for run in runs}
    return best


def compare_with_stl(runs: Sequence[Run]) -> None:
    """Sets `evaluations_to_stl`: the first evaluation at which a run's traced negative ELBO is within MARGIN of the
    last one of STL-ADVI on the same target with the same seed. None where either has no such value."""
    goals = {(run.target, run.seed): run for run in runs if run.method == "advi_stl" and run.status == "ok"}
    for run in runs:
        goal = goals.get((run.target, run.seed))
        if goal is None or run.status == "exception":
            continue
        values = [entry["negative_elbo"] for entry in goal.trace if "negative_elbo" in entry]
        if values:
            reached = (e["evaluations"] for e in run.trace if e.get("negative_elbo", math.inf) <= values[-1] + MARGIN)
            run.evaluations_to_stl = next((int(count) for count in reached), None)
