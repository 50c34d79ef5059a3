"""`hf_scorevi.metrics.mse_mae` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class MseMae(evaluate.Metric):
    """See `hf_scorevi.metrics.mse_mae`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("mse_mae", "samples")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("mse_mae", predictions, references, **options)
