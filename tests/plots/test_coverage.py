import io
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_scorevi.metrics import interval_coverage
from hf_scorevi.plots import coverage_diagram

LEVELS = (0.9, 0.5, 0.2)  # in any order


@pytest.fixture
def curve():
    random = np.random.default_rng(0)
    found = interval_coverage(0.7 * random.normal(size=(60, 40)), random.normal(size=60), levels=LEVELS)
    return found["levels"], found["interval_coverage"], 60


def points(axes):
    return [container.lines[0].get_xydata() for container in axes.containers]


def test_points_are_coverage_and_its_difference_by_level(curve):
    top, bottom = coverage_diagram({"model": curve}).axes
    rates = np.array(curve[1])[::-1]
    np.testing.assert_allclose(points(top)[0], np.stack([sorted(LEVELS), rates], axis=1))
    np.testing.assert_allclose(points(bottom)[0], np.stack([sorted(LEVELS), rates - sorted(LEVELS)], axis=1))


def test_error_bars_are_the_wilson_intervals(curve):
    top, bottom = coverage_diagram({"model": curve}).axes
    for axes, shift in ((top, 0.0), (bottom, 1.0)):
        segments = np.array(axes.containers[0].lines[2][0].get_segments())
        for level, rate, segment in zip(sorted(LEVELS), curve[1][::-1], segments[:, :, 1], strict=True):
            expected = binomtest(round(rate * 60), 60).proportion_ci(method="wilson")
            assert segment + shift * level == pytest.approx([expected.low, expected.high], abs=1e-7)


def test_models_stand_side_by_side(curve):
    found = np.array(points(coverage_diagram({"a": curve, "b": curve, "c": curve}).axes[0]))[:, :, 0]
    np.testing.assert_allclose(found[1], sorted(LEVELS))
    assert (np.diff(found, axis=0) > 0).all()
    assert np.abs(found - found[1]).max() < 0.01


def test_legend_has_the_mean_difference_and_the_title(curve):
    figure = coverage_diagram({"a": curve, "b": ((0.5, 0.9), (0.6, 0.7), 10)}, title="Rivers")
    expected = np.abs(np.array(curve[1]) - LEVELS).mean()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "as wide as they say",
        f"a (mean difference {expected:.3f})",
        "b (mean difference 0.150)",
    ]
    assert figure.legends[0].get_title().get_text() == "Rivers"


def test_curves_differ_in_colour_and_marker(curve):
    lines = [own.lines[0] for own in coverage_diagram({str(i): curve for i in range(5)}).axes[0].containers]
    assert len({line.get_color() for line in lines}) == 5
    assert len({line.get_marker() for line in lines}) == 5


def test_coverage_of_none_or_all_has_an_interval_and_a_picture_of_700_pixels():
    file = io.BytesIO()
    coverage_diagram({"x" * 200: ((0.5, 0.9), (0.0, 1.0), 3)}).savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (None, r"give \(levels, coverage, number of examples\)"),
        (([0.5], [0.5]), r"give \(levels, coverage, number of examples\)"),
        (([0.5, 0.9], [0.5], 3), r"must have one shape \[levels\], at least one, not \[2\] and \[1\]"),
        (([], [], 3), "at least one"),
        (([50.0], [0.5], 3), r"levels must lie in \[0, 1\], not \[50.0\]"),
        (([0.5], [np.nan], 3), r"coverage must lie in \[0, 1\], not \[nan\]"),
        (([0.5], [0.5], 0), "the number of examples must be at least 1, not 0"),
    ],
)
def test_names_the_curve_that_is_wrong(curve, odd, message):
    with pytest.raises(ValueError, match=f"curve 'odd': {message}|curve 'odd': .*{message}"):
        coverage_diagram({"good": curve, "odd": odd})


def test_refuses_no_curve():
    with pytest.raises(ValueError, match="curves is empty"):
        coverage_diagram({})


def test_without_matplotlib_names_the_extra(curve, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'coverage_diagram needs matplotlib: pip install "hf_scorevi'):
        coverage_diagram({"model": curve})
