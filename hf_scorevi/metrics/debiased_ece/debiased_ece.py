"""`hf_scorevi.metrics.debiased_ece` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class DebiasedEce(evaluate.Metric):
    """See `hf_scorevi.metrics.debiased_ece`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("debiased_ece", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("debiased_ece", predictions, references, **options)
