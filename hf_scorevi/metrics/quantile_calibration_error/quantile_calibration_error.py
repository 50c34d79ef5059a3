"""`hf_scorevi.metrics.quantile_calibration_error` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class QuantileCalibrationError(evaluate.Metric):
    """See `hf_scorevi.metrics.quantile_calibration_error`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("quantile_calibration_error", "samples")

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("quantile_calibration_error", predictions, references, **options)
