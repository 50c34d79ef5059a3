"""`hf_scorevi.metrics.msis` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Msis(evaluate.Metric):
    """See `hf_scorevi.metrics.msis`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("msis", "scaled_samples")

    def _compute(self, predictions: Any, references: Any, seasonal_errors: Any, **options: Any) -> dict[str, Any]:
        return compute("msis", predictions, references, seasonal_errors, **options)
