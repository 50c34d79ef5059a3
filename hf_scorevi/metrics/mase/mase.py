"""`hf_scorevi.metrics.mase` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Mase(evaluate.Metric):
    """See `hf_scorevi.metrics.mase`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("mase", "scaled_samples")

    def _compute(self, predictions: Any, references: Any, seasonal_errors: Any, **options: Any) -> dict[str, Any]:
        return compute("mase", predictions, references, seasonal_errors, **options)
