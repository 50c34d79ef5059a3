"""`hf_scorevi.metrics.ood_detection` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class OodDetection(evaluate.Metric):
    """See `hf_scorevi.metrics.ood_detection`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("ood_detection", "outliers")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("ood_detection", predictions, references, **options)
