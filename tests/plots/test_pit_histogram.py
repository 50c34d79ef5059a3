import io
import sys

import numpy as np
import pytest
from scipy.stats import binom

from hf_scorevi.metrics import quantile_calibration_error
from hf_scorevi.plots import pit_histogram
from hf_scorevi.plots.pit_histogram import binomial_interval


@pytest.fixture
def result():
    random = np.random.default_rng(0)
    return quantile_calibration_error(0.6 * random.normal(size=(400, 50)), random.normal(size=400), num_bins=8)


def test_bins_are_relative_to_a_uniform_s(result):
    (axes,) = pit_histogram({"model": result}).axes
    fill, line = (patch.get_data() for patch in axes.patches)
    np.testing.assert_allclose(line.values, np.array(result["pit_histogram"]) / (400 / 8))
    np.testing.assert_allclose(line.edges, result["levels"])
    np.testing.assert_array_equal(fill.values, line.values)
    assert line.values.mean() == pytest.approx(1)
    assert list(axes.lines[0].get_ydata()) == [1, 1]


def test_the_band_is_that_of_a_uniform_s_counts(result):
    (axes,) = pit_histogram({"model": result}).axes
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    low, high = binom.ppf([0.025, 0.975], 400, 1 / 8) / 50
    assert (heights.min(), heights.max()) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("count", "probability"), [(1, 0.5), (7, 0.1), (400, 0.125), (2000, 0.05), (1_900_000, 0.1), (50, 0.9)]
)
def test_binomial_interval_agrees_with_scipy(count, probability):
    assert binomial_interval(count, probability) == tuple(binom.ppf([0.025, 0.975], count, probability))


def test_every_bin_of_every_model_is_in_the_picture(result):
    random = np.random.default_rng(1)
    good = quantile_calibration_error(random.normal(size=(90, 50)), random.normal(size=90))
    figure = pit_histogram({"good": good, "narrow": result, "again": good}, title="Rivers")
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.axes[0].get_ylim()[1] > max(axes.patches[0].get_data().values.max() for axes in figure.axes)
    assert figure.axes[1].get_title(loc="left") == (
        f"narrow (quantile calibration error {result['quantile_calibration_error']:.3g})"
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "forecasts",
        "95 % if calibrated",
        "uniform",
    ]
    assert figure.legends[0].get_title().get_text() == "Rivers"


def test_is_a_picture_of_700_pixels_and_names_are_no_formulas(result):
    file = io.BytesIO()
    pit_histogram({"$\\frac{x$": result, "x" * 200: result}).savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700


@pytest.mark.parametrize("odd", [None, [1, 2], {}, {"pit_histogram": [3]}, {"pit_histogram": [0, 0]}])
def test_names_the_model_that_has_no_histogram(result, odd):
    with pytest.raises(ValueError, match="'odd': give what quantile_calibration_error returns"):
        pit_histogram({"good": result, "odd": odd})


def test_refuses_no_model():
    with pytest.raises(ValueError, match="results is empty"):
        pit_histogram({})


def test_without_matplotlib_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pit_histogram needs matplotlib: pip install "hf_scorevi'):
        pit_histogram({"model": result})
