"""`hf_scorevi.metrics.aurc` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class Aurc(evaluate.Metric):
    """See `hf_scorevi.metrics.aurc`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("aurc", "labels")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("aurc", predictions, references, **options)
