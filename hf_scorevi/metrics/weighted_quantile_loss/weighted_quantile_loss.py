"""`hf_scorevi.metrics.weighted_quantile_loss` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class WeightedQuantileLoss(evaluate.Metric):
    """See `hf_scorevi.metrics.weighted_quantile_loss`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("weighted_quantile_loss", "quantiles")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("weighted_quantile_loss", predictions, references, **options)
