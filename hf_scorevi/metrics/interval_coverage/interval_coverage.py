"""`hf_scorevi.metrics.interval_coverage` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class IntervalCoverage(evaluate.Metric):
    """See `hf_scorevi.metrics.interval_coverage`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("interval_coverage", "samples")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("interval_coverage", predictions, references, **options)
