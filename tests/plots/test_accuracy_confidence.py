import io
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_scorevi.plots import accuracy_confidence_curve


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.full(4, 0.4), size=300), rng.integers(0, 4, size=300)


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_lines_are_accuracy_and_share_at_each_threshold(predictions):
    probabilities, labels = predictions
    top, bottom = accuracy_confidence_curve({"model": predictions}).axes
    confidences, correct = probabilities.max(1), probabilities.argmax(1) == labels
    thresholds, shares = bottom.lines[0].get_data()
    np.testing.assert_allclose(thresholds, np.linspace(0.25, 1, len(thresholds)))
    np.testing.assert_allclose(shares, [(confidences >= t).mean() for t in thresholds])
    kept = thresholds <= confidences.max()
    x, accuracies = top.lines[0].get_data()
    np.testing.assert_array_equal(x, thresholds[kept])  # a line ends where no prediction is as confident
    np.testing.assert_allclose(accuracies, [correct[confidences >= t].mean() for t in x])


def test_the_band_is_the_wilson_interval(predictions):
    probabilities, labels = predictions
    (band,) = accuracy_confidence_curve({"model": predictions}).axes[0].collections
    correct = (probabilities.argmax(1) == labels)[probabilities.max(1) >= 0.25]
    expected = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    corners = band.get_paths()[0].vertices
    at_start = corners[np.isclose(corners[:, 0], 0.25), 1]
    assert at_start.min() == pytest.approx(expected.low, abs=1e-6)
    assert at_start.max() == pytest.approx(expected.high, abs=1e-6)


def test_a_confidence_on_the_threshold_is_kept():
    top, bottom = accuracy_confidence_curve({"sure": ([[0.0, 1.0], [0.5, 0.5]], [1, 1])}).axes
    assert top.lines[0].get_ydata()[-1] == 1.0
    assert top.lines[0].get_ydata()[0] == 0.5
    assert bottom.lines[0].get_ydata()[[0, -1]].tolist() == [1.0, 0.5]


def test_legend_has_the_accuracy_on_all_examples(predictions):
    probabilities, labels = predictions
    figure = accuracy_confidence_curve({"a": predictions, "b": (probabilities, probabilities.argmax(1))}, title="Pets")
    assert legend_texts(figure) == [
        f"a (accuracy {(probabilities.argmax(1) == labels).mean():.3f})",
        "b (accuracy 1.000)",
    ]
    assert figure.legends[0].get_title().get_text() == "Pets"


def test_the_axis_starts_at_chance_of_the_most_classes(predictions):
    figure = accuracy_confidence_curve({"four": predictions, "two": ([[0.2, 0.8]], [1])})
    assert figure.axes[0].get_xlim() == (0.25, 1.0)


def test_every_line_is_in_the_picture():
    rng = np.random.default_rng(1)
    wrong = np.array([[0.1, 0.9]] * 5 + [[0.4, 0.6]] * 20), np.array([0] * 5 + [1] * 20)  # worse where it is surer
    figure = accuracy_confidence_curve({"wrong": wrong, "chance": (rng.dirichlet((1, 1), 99), rng.integers(0, 2, 99))})
    low, high = figure.axes[0].get_ylim()
    for line in figure.axes[0].lines:
        assert low < line.get_ydata().min()
        assert high > line.get_ydata().max()


def test_lines_differ_in_colour_and_style(predictions):
    lines = accuracy_confidence_curve({str(i): predictions for i in range(4)}).axes[0].lines
    assert len({line.get_color() for line in lines}) == 4
    assert len({line.get_linestyle() for line in lines}) == 4


def test_is_a_picture_of_700_pixels(predictions):
    file = io.BytesIO()
    accuracy_confidence_curve({"model": predictions}).savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700


def test_refuses_no_curve():
    with pytest.raises(ValueError, match="curves is empty"):
        accuracy_confidence_curve({})


@pytest.mark.parametrize("curve", [None, ([[0.5, 0.5]],), ([[0.5, 0.5]], [0], 15)])
def test_names_the_curve_that_is_none(predictions, curve):
    with pytest.raises(ValueError, match=r"curve 'odd': give \(probabilities, labels\)"):
        accuracy_confidence_curve({"good": predictions, "odd": curve})


def test_names_the_curve_that_is_wrong(predictions):
    with pytest.raises(ValueError, match="curve 'logits': row 0 of probabilities"):
        accuracy_confidence_curve({"good": predictions, "logits": ([[3.0, 4.0]], [0])})


def test_without_matplotlib_names_the_extra(predictions, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'accuracy_confidence_curve needs matplotlib: pip install "hf_scorevi'):
        accuracy_confidence_curve({"model": predictions})
