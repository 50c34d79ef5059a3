import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.optimize import root as scipy_root

from hf_scorevi.inference import mean_step, objective, precision_ratio, precision_ratio_with_shift
from hf_scorevi.inference.proximal import precision_ratio_


def random_problems(n: int) -> list[tuple[float, float, float]]:
    """(ĥ, ĝ, κ): curvature of either sign, shifts of up to a few standard deviations, κ over four decades."""
    rng = np.random.default_rng(0)
    return list(zip(rng.normal(0.5, 2.0, n), rng.normal(0, 2.0, n), 10 ** rng.uniform(-2, 2, n), strict=True))


def stationary_point(h: float, g: float, kappa: float) -> tuple[float, float]:
    """(a, c) minimising the objective numerically, over (log a, c) so that a stays positive."""

    def value(x: np.ndarray) -> float:
        a, c = math.exp(x[0]), x[1]
        return (a - h) ** 2 + (c - g) ** 2 + 4 * kappa * 0.5 * (a + c * c / a - 1 - math.log(a))

    def gradient(x: np.ndarray) -> np.ndarray:
        a, c = math.exp(x[0]), x[1]
        by_a = 2 * (a - h) + 2 * kappa * (1 - (c / a) ** 2 - 1 / a)
        return np.array([a * by_a, 2 * (c - g) + 4 * kappa * c / a])

    best = minimize(value, np.zeros(2), jac=gradient, method="BFGS", options={"gtol": 1e-6})
    root = scipy_root(gradient, best.x, method="hybr", options={"xtol": 1e-14})
    assert value(root.x) <= best.fun + 1e-9
    best.x = root.x
    return math.exp(best.x[0]), best.x[1]


@pytest.mark.parametrize(("h", "g", "kappa"), random_problems(40))
def test_exact_step_is_the_numerical_minimiser(h, g, kappa):
    a_ref, c_ref = stationary_point(h, g, kappa)
    h_, g_ = torch.tensor(h, dtype=torch.float64), torch.tensor(g, dtype=torch.float64)
    a = precision_ratio_with_shift(h_, g_, kappa)
    c = a * mean_step(g_, a, kappa)
    assert a.item() == pytest.approx(a_ref, rel=1e-8, abs=1e-8)
    assert c.item() == pytest.approx(c_ref, rel=1e-8, abs=1e-8)
    at_minimum = objective(a, c, h_, g_, kappa)
    nearby = objective(a * torch.tensor([0.999, 1.001, 1, 1]), c + torch.tensor([0, 0, -1e-3, 1e-3]), h_, g_, kappa)
    assert (nearby > at_minimum).all()


@pytest.mark.parametrize(("h", "g", "kappa"), random_problems(40))
def test_closed_form_is_the_minimiser_without_the_shift(h, g, kappa):
    """Dropping b² is the objective at ĝ = 0, where the shift is zero."""
    a_ref, c_ref = stationary_point(h, 0.0, kappa)
    a = precision_ratio(torch.tensor(h, dtype=torch.float64), kappa)
    assert c_ref == pytest.approx(0, abs=1e-8)
    assert a.item() == pytest.approx(a_ref, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("kappa", [0.03, 1.0, 30.0])
def test_slope_at_the_fixed_point(kappa):
    """da/dĥ = 1/(1+κ) at ĥ = 1: the speed at which the precision follows its target."""
    h = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    a = precision_ratio(h, kappa)
    (slope,) = torch.autograd.grad(a, h)
    assert a.item() == pytest.approx(1, abs=1e-14)
    assert slope.item() == pytest.approx(1 / (1 + kappa), rel=1e-12)


def test_noise_bias_is_positive_and_second_order():
    """E[a] − 1 ≈ κ var(ĥ)/(1+κ)³: why the statistic is averaged before the step."""
    generator = torch.Generator().manual_seed(0)
    sd, kappa, n = 0.2, 3.0, 4_000_000
    h = 1 + sd * torch.randn(n, generator=generator, dtype=torch.float64)
    bias = (precision_ratio(h, kappa) - 1).mean().item()
    error = sd / (1 + kappa) / math.sqrt(n)
    assert bias == pytest.approx(kappa * sd**2 / (1 + kappa) ** 3, abs=5 * error + 0.02 * sd**3)
    assert bias > 5 * error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positive_for_absurd_curvature(dtype):
    h = torch.tensor([-1e30, -1e12, -1.0, 0.0, 1e-30, 1.0, 1e12, 1e18], dtype=dtype)
    for kappa in (1e-3, 1.0, 1e3):
        a = precision_ratio(h, kappa)
        assert (a > 0).all()
        assert a[h >= 1e12] == pytest.approx(h[h >= 1e12], rel=1e-5)


def test_no_cancellation_for_very_negative_curvature():
    """a → κ/|ĥ| as ĥ → −∞; the textbook form of the root would give 0 in float32."""
    a = precision_ratio(torch.tensor(-1e6, dtype=torch.float32), 2.0)
    assert a.item() == pytest.approx(2e-6, rel=1e-5)


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 1e3])
def test_the_step_in_place_is_the_step_within_its_bounds(kappa):
    h = torch.cat([-torch.logspace(-6, 38, 50), torch.zeros(1), torch.logspace(-6, 38, 50), torch.tensor([torch.inf])])
    bounds = 0.05, 4.5
    got = precision_ratio_(h.clone(), kappa, bounds)
    torch.testing.assert_close(got.double(), precision_ratio(h.double(), kappa).clamp(*bounds), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("elasticity", "kappa", "stable"), [(-5.0, 1.8, False), (-5.0, 2.2, True), (-0.9, 0.01, True)]
)
def test_step_size_limit(elasticity, kappa, stable):
    """Where a target's precision falls with q's as λ^s, the iteration is stable for κ > −(1 + s)/2."""
    precision = torch.tensor(1.001, dtype=torch.float64)
    for _ in range(400):
        precision = precision * precision_ratio(precision**elasticity / precision, kappa)
    assert (abs(precision.item() - 1) < 1e-4) == stable


def test_stationary_variance():
    """Fresh noise of variance v in ĥ leaves log λ with variance v/(1 + 2κ)."""
    kappa, v = 2.0, 0.01
    generator = torch.Generator().manual_seed(0)
    log_precision = torch.zeros(4000, dtype=torch.float64)
    for _ in range(100):
        noise = v**0.5 * torch.randn(log_precision.shape, generator=generator, dtype=torch.float64)
        # The target is λ = 1, known with a relative error.
        h = (1 + noise) * (-log_precision).exp()
        log_precision += precision_ratio(h, kappa).log()
    # The standard error of a variance from 4,000 chains is 2.2 %; terms of the next order in v add about as much.
    assert log_precision.var().item() == pytest.approx(v / (1 + 2 * kappa), rel=0.09)
