"""`hf_scorevi.metrics.predictive_uncertainty` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class PredictiveUncertainty(evaluate.Metric):
    """See `hf_scorevi.metrics.predictive_uncertainty`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("predictive_uncertainty", "draws")

    def _compute(self, predictions: Any, **options: Any) -> dict[str, Any]:
        return compute("predictive_uncertainty", predictions, **options)
