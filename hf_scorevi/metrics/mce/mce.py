"""`hf_scorevi.metrics.mce` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Mce(evaluate.Metric):
    """See `hf_scorevi.metrics.mce`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("mce", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("mce", predictions, references, **options)
