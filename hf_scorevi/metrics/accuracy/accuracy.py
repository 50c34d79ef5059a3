"""`hf_scorevi.metrics.accuracy` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Accuracy(evaluate.Metric):
    """See `hf_scorevi.metrics.accuracy`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("accuracy", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("accuracy", predictions, references, **options)
