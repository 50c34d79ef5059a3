"""`hf_scorevi.metrics.crps_gaussian_mixture` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class CrpsGaussianMixture(evaluate.Metric):
    """See `hf_scorevi.metrics.crps_gaussian_mixture`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("crps_gaussian_mixture", "gaussians")

    def _compute(self, predictions: Any, standard_deviations: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("crps_gaussian_mixture", predictions, standard_deviations, references, **options)
