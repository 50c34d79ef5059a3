"""`hf_scorevi.metrics.mixture_nll` as a module of `evaluate`."""

from typing import Any

import evaluate

from hf_scorevi.metrics._evaluate import compute, metric_info


class MixtureNll(evaluate.Metric):
    """See `hf_scorevi.metrics.mixture_nll`."""

    def _info(self) -> evaluate.MetricInfo:
        return metric_info("mixture_nll", "gaussians")

    def _compute(self, predictions: Any, standard_deviations: Any, references: Any, **options: Any) -> dict[str, Any]:
        return compute("mixture_nll", predictions, standard_deviations, references, **options)
