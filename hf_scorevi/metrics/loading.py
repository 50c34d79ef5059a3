"""The metrics as modules of `evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import evaluate

__all__ = ["load_metric", "metric_folder", "metric_names"]

_HERE = Path(__file__).parent


def load_metric(
    name: str,
    *,
    keep_in_memory: bool = False,
    cache_dir: str | None = None,
    num_process: int = 1,
    process_id: int = 0,
    experiment_id: str | None = None,
    seed: int | None = None,
) -> "evaluate.Metric":
    """Load a metric of this library as a module of `evaluate`, without a network.

    `load_metric("ece").compute(predictions=probabilities, references=labels, num_bins=15)` returns the
    same as `hf_scorevi.metrics.ece(probabilities, labels, num_bins=15)`.

    Args:
        name: of the metric, as in `hf_scorevi.metrics`.
        keep_in_memory: hold what is added in memory and not in a file. Not with several processes.
        cache_dir: folder for what is added, shared by all processes; by default that of `evaluate`.
        num_process: number of processes, each of which adds its part; process 0 computes the value.
        process_id: which of them this is.
        experiment_id: distinguishes simultaneous evaluations in one `cache_dir`; the same in all processes of one.
        seed: of numpy's global generator during `compute`, which no metric here draws from.

    Returns:
        An `evaluate.Metric`.

    Raises:
        ValueError: there is no metric of this name.
        ImportError: `evaluate` is not installed.
    """
    folder = metric_folder(name)
    try:
        import evaluate
    except ImportError as error:
        raise ImportError(
            'load_metric needs the package evaluate: pip install "hf_scorevi[evaluate]". '
            f"hf_scorevi.metrics.{name} does not."
        ) from error
    return evaluate.load(
        str(folder),
        keep_in_memory=keep_in_memory,
        cache_dir=cache_dir,
        num_process=num_process,
        process_id=process_id,
        experiment_id=experiment_id,
        seed=seed,
    )


def metric_names() -> list[str]:
    """Return the names that `load_metric` takes, sorted."""
    return sorted(path.parent.name for path in _HERE.glob("*/*.py") if path.stem == path.parent.name)


def metric_folder(name: str) -> Path:
    """Return the folder of a metric, which `evaluate.load` takes as it is.

    Raises:
        ValueError: there is no metric of this name.
    """
    if name not in metric_names():
        raise ValueError(f"there is no metric {name!r}: the names are {', '.join(metric_names())}")
    return _HERE / name
