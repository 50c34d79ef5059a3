"""How much the likelihood weighs: the temperature rule."""

__all__ = ["OBSERVATIONS_PER_WEIGHT", "resolve_temperature"]

# Pseudo-observations per Bayesian weight that "auto" grants the likelihood. The rule needs a constant of order one;
# more makes the posterior colder and the predictive more confident.
OBSERVATIONS_PER_WEIGHT = 1


def resolve_temperature(temperature: float | str, num_data: int, num_weights: int) -> float:
    """
    The temperature T; the likelihood then enters with `num_data / T` terms.

    `"auto"`: T = min(1, num_data / num_weights), one pseudo-observation a weight. The KL of `num_weights` weights has
    to compete with a mean log-likelihood of order one; at T = 1 with far more weights than data, the ELBO itself
    prefers the prior.
    """
    if temperature == "auto":
        return min(1.0, num_data / (OBSERVATIONS_PER_WEIGHT * num_weights))
    return float(temperature)
