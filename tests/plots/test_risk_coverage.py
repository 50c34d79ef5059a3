import io
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_scorevi.metrics import risk_coverage_curve
from hf_scorevi.plots import risk_coverage_diagram


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.full(4, 0.4), size=100), rng.integers(0, 4, size=100)


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_line_is_the_error_rate_of_the_most_confident(predictions):
    probabilities, labels = predictions
    coverage, risk = risk_coverage_diagram({"model": predictions}).axes[0].lines[0].get_data()
    wrong = (probabilities.argmax(1) != labels)[np.argsort(-probabilities.max(1))]
    np.testing.assert_allclose(coverage, np.arange(1, 101) / 100)
    np.testing.assert_allclose(risk, [wrong[:k].mean() for k in range(1, 101)])


def test_the_band_is_the_wilson_interval(predictions):
    probabilities, labels = predictions
    (band,) = risk_coverage_diagram({"model": predictions}).axes[0].collections
    wrong = int((probabilities.argmax(1) != labels).sum())
    expected = binomtest(wrong, 100).proportion_ci(method="wilson")
    corners = band.get_paths()[0].vertices
    at_end = corners[corners[:, 0] == 1, 1]
    assert at_end.min() == pytest.approx(expected.low, abs=1e-6)
    assert at_end.max() == pytest.approx(expected.high, abs=1e-6)


def test_legend_has_the_area_under_each_line_and_the_title(predictions):
    probabilities, labels = predictions
    curve = risk_coverage_curve(probabilities, labels)
    figure = risk_coverage_diagram({"a": predictions, "b": (probabilities, probabilities.argmax(1))}, title="Pets")
    assert legend_texts(figure) == [f"a (AURC {curve.risk.mean():.4f})", "b (AURC 0.0000)"]
    assert figure.legends[0].get_title().get_text() == "Pets"


def test_takes_scores_and_curves_that_are_made_already(predictions):
    probabilities, labels = predictions
    wrong = probabilities.argmax(1) != labels
    curve = risk_coverage_curve(probabilities, labels)
    lines = (
        risk_coverage_diagram({"scores": (probabilities, labels, -wrong.astype(float)), "made": curve}).axes[0].lines
    )
    # A score that knows the errors answers them last.
    np.testing.assert_allclose(lines[0].get_ydata()[: (~wrong).sum()], 0)
    np.testing.assert_array_equal(lines[1].get_ydata(), curve.risk)


def test_lines_are_in_the_picture_but_for_the_few_most_confident():
    probabilities = np.stack([np.linspace(0.1, 0.4, 200), np.linspace(0.9, 0.6, 200)], axis=1)
    labels = np.ones(200, dtype=int)
    labels[:3] = 0  # the surest three are wrong
    figure = risk_coverage_diagram({"model": (probabilities, labels)})
    low, high = figure.axes[0].get_ylim()
    coverage, risk = figure.axes[0].lines[0].get_data()
    assert low < 0
    assert risk[coverage >= 0.1].max() < high < 0.3


@pytest.mark.parametrize("curve", [([[0.1, 0.9]], [1]), ([[0.1, 0.9]], [0])])
def test_one_example_is_a_picture_of_700_pixels(curve):
    file = io.BytesIO()
    risk_coverage_diagram({"one": curve}).savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700


def test_refuses_no_curve():
    with pytest.raises(ValueError, match="curves is empty"):
        risk_coverage_diagram({})


@pytest.mark.parametrize("curve", [None, 0.5, ([[0.5, 0.5]],), ([[0.5, 0.5]], [0], [1.0], 15)])
def test_names_the_curve_that_is_none(predictions, curve):
    with pytest.raises(ValueError, match=r"curve 'odd': give \(probabilities, labels\), \(probabilities, labels, sc"):
        risk_coverage_diagram({"good": predictions, "odd": curve})


def test_names_the_curve_that_is_wrong(predictions):
    with pytest.raises(ValueError, match="curve 'logits': row 0 of probabilities"):
        risk_coverage_diagram({"good": predictions, "logits": ([[3.0, 4.0]], [0])})


def test_without_matplotlib_names_the_extra(predictions, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'risk_coverage_diagram needs matplotlib: pip install "hf_scorevi'):
        risk_coverage_diagram({"model": predictions})
