"""`hf_scorevi.metrics.nll` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Nll(evaluate.Metric):
    """See `hf_scorevi.metrics.nll`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("nll", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("nll", predictions, references, **options)
