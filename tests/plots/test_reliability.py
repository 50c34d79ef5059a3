import io
import sys

import numpy as np
import pytest

from hf_scorevi.metrics import ece, reliability_bins, wilson_interval
from hf_scorevi.plots import reliability_diagram


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(5, 0.4), size=400)
    return probabilities, rng.integers(0, 5, size=400)


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_draws_the_bins(predictions):
    figure = reliability_diagram({"model": predictions}, num_bins=10)
    bins = reliability_bins(*predictions, num_bins=10)
    filled = bins.counts > 0
    top, bottom = figure.axes
    (points,) = (container.lines[0] for container in top.containers)
    np.testing.assert_array_equal(points.get_xdata(), bins.mean_confidence[filled])
    np.testing.assert_array_equal(points.get_ydata(), bins.accuracy[filled])
    histogram = bottom.patches[0].get_data()
    np.testing.assert_array_equal(histogram.values, bins.counts / 400)
    np.testing.assert_array_equal(histogram.edges, bins.edges)


def test_error_bars_are_the_wilson_intervals(predictions):
    figure = reliability_diagram({"model": predictions}, num_bins=10)
    bins = reliability_bins(*predictions, num_bins=10)
    filled = bins.counts > 0
    low, high = wilson_interval(bins.accuracy[filled], bins.counts[filled])
    (container,) = figure.axes[0].containers
    segments = np.array(container.lines[2][0].get_segments())
    np.testing.assert_allclose(segments[:, :, 1], np.stack([low, high], axis=1), atol=1e-12)


def test_legend_carries_the_ece_of_each_curve(predictions):
    probabilities, _ = predictions
    curves = {"as it is": predictions, "always right": (probabilities, probabilities.argmax(axis=1))}
    texts = legend_texts(reliability_diagram(curves, num_bins=12))
    for name, curve in curves.items():
        assert f"{name} (ECE {ece(*curve, num_bins=12)['ece']:.3f})" in texts


def test_title(predictions):
    figure = reliability_diagram({"model": predictions}, title="Flowers")
    assert figure.legends[0].get_title().get_text() == "Flowers"
    assert reliability_diagram({"model": predictions}).legends[0].get_title().get_text() == ""


def test_curves_differ_in_colour_and_marker(predictions):
    figure = reliability_diagram({str(index): predictions for index in range(5)})
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert len({line.get_color() for line in lines}) == 5
    assert len({line.get_marker() for line in lines}) == 5


def test_is_a_picture_of_700_pixels_and_leaves_pyplot_alone(predictions):
    before = "matplotlib.pyplot" in sys.modules
    file = io.BytesIO()
    reliability_diagram({"model": predictions}).savefig(file, format="png")
    data = file.getvalue()
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 700  # the width, in the header of a PNG
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_one_example():
    figure = reliability_diagram({"model": ([[0.1, 0.9]], [1])})
    (container,) = figure.axes[0].containers
    np.testing.assert_array_equal(container.lines[0].get_ydata(), [1.0])


def test_takes_bins_that_are_counted_already(predictions):
    bins = reliability_bins(*predictions, num_bins=8)
    mixed = reliability_diagram({"counted": bins, "not yet": predictions}, num_bins=8)
    counted, given = (container.lines[0] for container in mixed.axes[0].containers)
    np.testing.assert_array_equal(counted.get_xydata(), given.get_xydata())
    assert f"counted (ECE {bins.ece:.3f})" in legend_texts(mixed)


def test_keeps_the_number_of_bins_that_are_counted_already(predictions):
    figure = reliability_diagram({"model": reliability_bins(*predictions, num_bins=4)}, num_bins=20)
    assert len(figure.axes[1].patches[0].get_data().values) == 4


@pytest.mark.parametrize("curve", [None, 0.5, ([[0.5, 0.5]],), ([[0.5, 0.5]], [0], 15)])
def test_names_the_curve_that_is_none(predictions, curve):
    with pytest.raises(ValueError, match=r"curve 'odd': give \(probabilities, labels\) or ReliabilityBins"):
        reliability_diagram({"good": predictions, "odd": curve})


def test_refuses_no_curve():
    with pytest.raises(ValueError, match="curves is empty"):
        reliability_diagram({})


def test_names_the_curve_that_is_wrong(predictions):
    with pytest.raises(ValueError, match="curve 'logits': row 0 of probabilities"):
        reliability_diagram({"good": predictions, "logits": ([[3.0, 4.0]], [0])})


def test_without_matplotlib_names_the_extra(predictions, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "hf_scorevi\[plots\]"'):
        reliability_diagram({"model": predictions})
