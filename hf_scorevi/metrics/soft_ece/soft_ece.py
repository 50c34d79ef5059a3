"""`hf_scorevi.metrics.soft_ece` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class SoftEce(evaluate.Metric):
    """See `hf_scorevi.metrics.soft_ece`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("soft_ece", "distributions")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("soft_ece", predictions, references, **options)
