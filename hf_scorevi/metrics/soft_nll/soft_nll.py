"""`hf_scorevi.metrics.soft_nll` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class SoftNll(evaluate.Metric):
    """See `hf_scorevi.metrics.soft_nll`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("soft_nll", "distributions")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("soft_nll", predictions, references, **options)
