"""Which way every figure is better: declared once, beside the metric, and true."""

import re
from importlib import import_module

import numpy as np
import pytest

from hf_scorevi import metrics
from hf_scorevi.metrics import FIGURES, find_figure
from hf_scorevi.metrics.loading import metric_folder, metric_names

# What a result tells besides: how it was found, and curves.
SETTINGS = {
    "binning", "convention", "estimator", "interval", "level", "levels", "norm", "num_bins", "num_components",
    "num_dimensions", "num_draws", "num_in", "num_out", "num_resamples", "num_samples", "observed", "pit",
    "pit_histogram", "point", "quantiles", "seed", "single_bins", "unit", "weights",
}  # fmt: skip


def declared(name):
    return {figure.name: figure for figure in import_module(f"hf_scorevi.metrics.functions.{name}").FIGURES}


@pytest.mark.parametrize("name", metric_names())
def test_every_number_of_a_result_is_declared_beside_its_metric(name):
    card = (metric_folder(name) / "README.md").read_text(encoding="utf-8")
    found: dict = {}
    exec(compile(re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1), name, "exec"), found)
    left = {key for key in found["result"] if not key.endswith("_quantiles")} - SETTINGS
    if name == "interval_coverage":
        assert left <= declared(name).keys()
    else:
        assert left == declared(name).keys()


@pytest.mark.parametrize("name", metric_names())
def test_what_the_card_says_is_better_is_declared(name):
    text = " ".join((metric_folder(name) / "README.md").read_text(encoding="utf-8").split())
    text += " ".join((getattr(metrics, name).__doc__ or "").split())
    for figure in declared(name).values():
        if figure.direction and name not in ("mase", "msis"):  # whose cards leave the unscaled part without a word
            assert figure.direction in text, figure.name


def test_a_figure_of_several_metrics_is_better_in_one_way():
    for name in metric_names():
        for figure in declared(name).values():
            assert FIGURES[figure.name].greater_is_better == figure.greater_is_better


def good_and_bad(kind, rng):
    """Arguments of a metric for a model that is right, and for one that is confidently wrong."""
    if kind == "labels":
        probabilities = rng.dirichlet([0.4] * 4, 3000)
        labels = np.array([rng.choice(4, p=row) for row in probabilities])
        wrong = np.full_like(probabilities, 0.02)
        wrong[np.arange(3000), (labels + (rng.random(3000) < 0.9)) % 4] = 0.94
        return (probabilities, labels), (wrong, labels)
    if kind == "distributions":
        shares = rng.dirichlet([1.0] * 4, 3000)
        return (shares, shares), (np.roll(shares, 1, axis=1), shares)
    if kind == "outliers":
        inside = np.arange(400) % 2
        scores = inside + 0.3 * rng.normal(size=400)
        return (scores, inside), (-scores, inside)
    centres, targets = rng.normal(size=500), rng.normal(size=500)
    targets = centres + targets
    samples = centres[:, None] + rng.normal(size=(500, 40))
    if kind == "quantiles":
        return (np.quantile(samples, [0.1, 0.5, 0.9], axis=1).T, targets, [0.1, 0.5, 0.9]), (
            np.quantile(samples, [0.1, 0.5, 0.9], axis=1).T + 5, targets, [0.1, 0.5, 0.9])  # fmt: skip
    if kind == "vectors":
        return (samples[:, :, None], targets[:, None]), (samples[:, :, None] + 5, targets[:, None])
    if kind == "gaussians":
        return (centres[:, None], 1.0, targets), (centres[:, None] + 5, 1.0, targets)
    scale = (np.ones(500),) if kind == "scaled_samples" else ()
    return (samples, targets, *scale), (samples + 5, targets, *scale)


KINDS = {
    "soft_ece": "distributions", "soft_nll": "distributions", "ood_detection": "outliers", "crps": "samples",
    "energy_score": "vectors", "interval_coverage": "samples", "mase": "scaled_samples", "mse_mae": "samples",
    "msis": "scaled_samples", "quantile_calibration_error": "samples", "weighted_quantile_loss": "quantiles",
    "crps_gaussian_mixture": "gaussians", "mixture_nll": "gaussians",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(metric_names()) - {"predictive_uncertainty"}))
def test_a_worse_model_is_worse_by_every_figure_that_has_a_direction(name):
    good, bad = good_and_bad(KINDS.get(name, "labels"), np.random.default_rng(0))
    first, second = (getattr(metrics, name)(*inputs) for inputs in (good, bad))
    judged = [
        figure for key, figure in declared(name).items() if figure.greater_is_better is not None and key in first
    ]
    # Confidences of one size rank nothing, and tell nothing of each other.
    judged = [figure for figure in judged if figure.name not in ("resolution", "excess_aurc")]
    assert judged
    for figure in judged:
        better, worse = np.mean(first[figure.name]), np.mean(second[figure.name])
        assert (better > worse) == figure.greater_is_better and better != worse, figure.name


def test_figures_are_found_in_the_results_of_evaluations():
    for name in ("crps", "eval_crps", "mean_crps", "eval_mean_crps", "test_mean_crps"):
        assert find_figure(name) is FIGURES["crps"]
    assert find_figure("eval_mean_width") is FIGURES["mean_width"]
    assert find_figure("eval_mean_perplexity").greater_is_better is False
    assert find_figure("eval_coverage_90").greater_is_better is None
    assert find_figure("eval_night_mean_nll", ["day", "night"]) is FIGURES["nll"]
    for name in ("my_nll", "eval_night_nll", "loss", "neg_mse", "", "f1", "ece_bins"):
        assert find_figure(name) is None
