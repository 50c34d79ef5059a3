"""`hf_scorevi.metrics.energy_score` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class EnergyScore(evaluate.Metric):
    """See `hf_scorevi.metrics.energy_score`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("energy_score", "vectors")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("energy_score", predictions, references, **options)
