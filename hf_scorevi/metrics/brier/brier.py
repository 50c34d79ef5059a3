"""`hf_scorevi.metrics.brier` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Brier(evaluate.Metric):
    """See `hf_scorevi.metrics.brier`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("brier", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("brier", predictions, references, **options)
