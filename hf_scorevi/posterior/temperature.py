"""The temperature of the posterior, by which the likelihood weighs."""

__all__ = ["FORECASTER_OBSERVATIONS", "OBSERVATIONS_PER_WEIGHT", "resolve_temperature"]

# Pseudo-observations per Bayesian weight that "auto" grants the likelihood. The rule needs a constant of order one to
# ten; more makes the posterior colder and the predictive more confident. Forecasters, which are trained from random
# weights, underfit at one (benchmarks/README.md).
OBSERVATIONS_PER_WEIGHT, FORECASTER_OBSERVATIONS = 1, 10


def resolve_temperature(
    temperature: float | str, num_data: int, num_weights: int, observations_per_weight: int = OBSERVATIONS_PER_WEIGHT
) -> float:
    """
    Return the temperature T of the posterior; the likelihood then enters with `num_data / T` terms.

    `"auto"`: T = min(1, num_data / (c · num_weights)), c pseudo-observations a weight. The KL of `num_weights` weights
    has to compete with a mean log-likelihood of order one; at T = 1 with far more weights than data, the ELBO itself
    prefers the prior.
    """
    if temperature == "auto":
        return min(1.0, num_data / (observations_per_weight * num_weights))
    return float(temperature)
