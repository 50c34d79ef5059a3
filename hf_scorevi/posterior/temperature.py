"""How much the likelihood weighs: the temperature rule."""

__all__ = ["OBSERVATIONS_PER_WEIGHT", "resolve_temperature"]

# Pseudo-observations per Bayesian weight that "auto" grants the likelihood. Between 3 and 10 the calibration of the
# predictive is flat (docs/method.md); hand-picked discounts in the literature amount to 6 to 43.
OBSERVATIONS_PER_WEIGHT = 10


def resolve_temperature(temperature: float | str, num_data: int, num_weights: int) -> float:
    """
    The temperature T; the likelihood then enters with `num_data / T` terms.

    `"auto"`: T = min(1, num_data / (10 num_weights)). The KL of `num_weights` weights has to compete with a mean
    log-likelihood of order one; at T = 1 with far more weights than data, the ELBO itself prefers the prior.
    """
    if temperature == "auto":
        return min(1.0, num_data / (OBSERVATIONS_PER_WEIGHT * num_weights))
    return float(temperature)
