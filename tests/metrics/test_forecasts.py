"""What all metrics of forecasts ask of their inputs."""

import math

import numpy as np
import pytest

from hf_scorevi import metrics

SAMPLES = ["crps", "interval_coverage", "mse_mae", "quantile_calibration_error"]
SCALED = ["mase", "msis"]
GAUSSIANS = ["crps_gaussian_mixture", "mixture_nll"]
GOOD = [[1.0, 2.0], [3.0, 4.0]]
TARGETS = [1.5, 3.5]


def call(name, predictions, targets):
    if name in SCALED:
        return getattr(metrics, name)(predictions, targets, np.ones(np.shape(targets)))
    if name in GAUSSIANS:
        return getattr(metrics, name)(predictions, 1.0, targets)
    if name == "weighted_quantile_loss":
        return metrics.weighted_quantile_loss(predictions, targets, [0.1, 0.9])
    return getattr(metrics, name)(predictions, targets)


@pytest.mark.parametrize("name", [*SAMPLES, *SCALED, *GAUSSIANS, "weighted_quantile_loss"])
@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        ([1.0, 2.0], TARGETS, r"must have the shape \[examples, \w+\], none of them empty, not \[2\]"),
        ([GOOD, GOOD], TARGETS, r"must have the shape \[examples, \w+\].*flatten series, horizon and channels"),
        (np.empty((0, 3)), [], r"none of them empty, not \[0, 3\]"),
        (np.empty((2, 0)), TARGETS, r"none of them empty, not \[2, 0\]"),
        ([["a", "b"]] * 2, TARGETS, "must be real numbers"),
        ([[1.0, 2.0], [3.0]], TARGETS, "is not a regular array"),
        ([[1.0, 2.0], [3.0, math.nan]], TARGETS, r"row 1 of \w+ holds NaN or infinity"),
        ([[math.inf, 2.0], [3.0, 1.0]], TARGETS, r"row 0 of \w+ holds NaN or infinity"),
        (GOOD, [1.0], r"must have the shape \[2\] that fits the predictions, not \[1\]|shape \[1\]"),
        (GOOD, GOOD, r"targets must have the shape \[2\]|seasonal_errors must have the shape"),
        (GOOD, [1.0, math.nan], "row 1 of targets holds NaN or infinity"),
    ],
)
def test_refuses(name, predictions, targets, message):
    with pytest.raises(ValueError, match=message):
        call(name, predictions, targets)


@pytest.mark.parametrize("name", GAUSSIANS)
@pytest.mark.parametrize(
    ("deviations", "message"),
    [
        ([[1.0, 1.0], [1.0, -0.1]], "row 1 of standard_deviations holds a negative value"),
        (-1.0, "row 0 of standard_deviations holds a negative value"),
        ([1.0, math.nan], "row 1 of standard_deviations holds NaN"),
        ([1.0, 1.0, 1.0], r"must be a number or have the shape \[2\] or \[2, 2\] of the means, not \[3\]"),
        ([[1.0], [1.0]], r"not \[2, 1\]"),
        ("a", "standard_deviations must be real numbers"),
    ],
)
def test_refuses_standard_deviations(name, deviations, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(GOOD, deviations, TARGETS)


@pytest.mark.parametrize("levels", [[], [0.0], [0.5, 1.0], [-0.1], [math.nan], 0.5, [50, 90]])
@pytest.mark.parametrize("name", ["interval_coverage", "weighted_quantile_loss"])
def test_refuses_levels(name, levels):
    with pytest.raises(ValueError, match="levels must lie between 0 and 1, both excluded"):
        getattr(metrics, name)(GOOD, TARGETS, levels)


@pytest.mark.parametrize("name", SCALED)
def test_refuses_seasonal_errors(name):
    metric = getattr(metrics, name)
    with pytest.raises(ValueError, match=r"seasonal_errors\[1\] is 0: it must be positive; leave out series"):
        metric(GOOD, TARGETS, [1.0, 0.0])
    with pytest.raises(ValueError, match=r"seasonal_errors must have the shape \[2\]"):
        metric(GOOD, TARGETS, [1.0])
    with pytest.raises(ValueError, match="row 0 of seasonal_errors holds NaN"):
        metric(GOOD, TARGETS, [math.nan, 1.0])


def test_names_the_row_of_a_later_chunk(monkeypatch):
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 4)
    samples = np.ones((9, 2))
    samples[7, 1] = np.nan
    with pytest.raises(ValueError, match="row 7 of samples"):
        metrics.crps(samples, np.zeros(9))


def test_energy_score_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"samples must have the shape \[examples, samples, dimensions\]"):
        metrics.energy_score(GOOD, TARGETS)
    with pytest.raises(ValueError, match=r"targets must have the shape \[1, 2\]"):
        metrics.energy_score([GOOD], [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="row 0 of samples holds NaN"):
        metrics.energy_score([[[1.0, math.nan]]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="estimator must be"):
        metrics.energy_score([GOOD], [[1.0, 2.0]], "v")
