"""`hf_scorevi.metrics.crps` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Crps(evaluate.Metric):
    """See `hf_scorevi.metrics.crps`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("crps", "samples")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("crps", predictions, references, **options)
