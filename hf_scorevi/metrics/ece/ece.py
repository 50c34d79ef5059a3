"""`hf_scorevi.metrics.ece` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Ece(evaluate.Metric):
    """See `hf_scorevi.metrics.ece`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("ece", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("ece", predictions, references, **options)
