import io
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hf_scorevi.plots import entropy_histogram


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return rng.gamma(2.0, 0.2, 200), rng.gamma(3.0, 0.3, 120)


def test_densities_on_bins_that_all_panels_share(scores):
    other = scores[0] * 2, scores[1] * 2
    figure = entropy_histogram({"a": scores, "b": other}, num_bins=12)
    everything = np.concatenate([*scores, *other])
    edges = np.linspace(everything.min(), everything.max(), 13)
    assert len(figure.axes) == 2
    for axes, pair in zip(figure.axes, (scores, other), strict=True):
        lines = [patch.get_data() for patch in axes.patches if not patch.get_fill()]
        for line, values in zip(lines, pair, strict=True):
            np.testing.assert_allclose(line.edges, edges)
            np.testing.assert_allclose(line.values, np.histogram(values, edges, density=True)[0])
            assert (line.values * np.diff(edges)).sum() == pytest.approx(1)


def test_panels_name_the_model_and_its_auroc(scores):
    figure = entropy_histogram({"a": scores, "b": scores[::-1]}, title="Digits")
    auroc = roc_auc_score(np.repeat([0, 1], [200, 120]), np.concatenate(scores))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"a (AUROC {auroc:.3f})",
        f"b (AUROC {1 - auroc:.3f})",
    ]
    assert figure.legends[0].get_title().get_text() == "Digits"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["in distribution", "out of distribution"]


def test_what_the_scores_are(scores):
    assert entropy_histogram({"a": scores}, label="mutual information").axes[-1].get_xlabel() == "mutual information"


def test_scores_that_are_all_the_same():
    figure = entropy_histogram({"a": ([0.2, 0.2], [0.2])})
    assert figure.axes[0].get_title(loc="left") == "a (AUROC 0.500)"
    figure.savefig(io.BytesIO(), format="png")


def test_is_a_picture_of_700_pixels_and_names_are_no_formulas(scores):
    file = io.BytesIO()
    entropy_histogram({"$\\frac{x$": scores, "x" * 200: scores}).savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (None, r"'odd': give \(scores in distribution, scores out of distribution\)"),
        (([1.0], [1.0], [1.0]), r"'odd': give \(scores in distribution"),
        (([], [1.0]), r"'odd': scores in distribution must have the shape \[examples\], at least one, not \[0\]"),
        (([1.0], [[1.0]]), r"'odd': scores out of distribution must have the shape \[examples\].* not \[1, 1\]"),
        (([1.0, np.nan], [1.0]), "'odd': scores in distribution hold nan at 1"),
        (([1.0], [np.inf]), "'odd': scores out of distribution hold inf at 0"),
        ((["a"], [1.0]), "'odd': scores in distribution must be real numbers"),
    ],
)
def test_names_what_is_wrong(scores, pair, message):
    with pytest.raises(ValueError, match=message):
        entropy_histogram({"good": scores, "odd": pair})


def test_refuses_no_model_and_no_bin(scores):
    with pytest.raises(ValueError, match="scores is empty"):
        entropy_histogram({})
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1"):
        entropy_histogram({"a": scores}, num_bins=0)


def test_without_matplotlib_names_the_extra(scores, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'entropy_histogram needs matplotlib: pip install "hf_scorevi'):
        entropy_histogram({"a": scores})
