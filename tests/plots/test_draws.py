import io
import math
import sys

import pytest

from hf_scorevi.plots import metrics_by_draws


def run(*draws, **figures):
    """Figures that fall with the number of draws."""
    return [{"num_samples": s} | {name: value + 1 / s for name, value in figures.items()} for s in draws]


FOUR = run(1, 2, 4, 8, nll=0.5, ece=0.1, accuracy=0.7, brier=0.3)


def titles(figure):
    return [axes.get_title(loc="left").split(" (")[0].split(",")[0] for axes in figure.axes]


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_panel_for_each_metric_with_its_figures():
    figure = metrics_by_draws({"model": FOUR})
    assert titles(figure) == ["NLL", "ECE", "accuracy", "Brier score"]
    for axes, metric in zip(figure.axes, ("nll", "ece", "accuracy", "brier"), strict=True):
        assert axes.lines[0].get_xdata().tolist() == [1, 2, 4, 8]
        assert axes.lines[0].get_ydata().tolist() == [own[metric] for own in FOUR]


def test_draws_are_put_in_order():
    figure = metrics_by_draws({"model": FOUR[::-1]})
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2, 4, 8]


def test_the_axis_is_logarithmic_with_powers_of_two():
    axes = metrics_by_draws({"model": run(3, 10, 100, 1000, nll=0.5)}).axes[0]
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    assert low < 3
    assert high > 1000
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 3 <= len(ticks) <= 8
    assert all(math.log2(tick).is_integer() for tick in ticks)


def test_figures_that_are_missing_are_left_out():
    own = [{"num_samples": 1, "nll": 1.0}, {"num_samples": 2, "nll": None}, {"num_samples": 4, "nll": math.nan}]
    figure = metrics_by_draws({"odd": own, "good": run(1, 2, 4, nll=0.5)})
    assert titles(figure) == ["NLL"]
    odd, good = figure.axes[0].lines
    assert odd.get_xdata().tolist() == [1]
    assert good.get_xdata().tolist() == [1, 2, 4]


def test_other_metrics_by_their_names():
    run_of = {"model": run(1, 2, mse=2.0, nll=1.0, coverage_90=0.9, mine=3.0)}
    figure = metrics_by_draws(run_of, metrics=["mse", "coverage_90", "mine"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "MSE (target²), lower is better",
        "90 % coverage",
        "mine",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_lowest_panel_of_each_column_numbers_the_draws(count):
    metrics = ["nll", "ece", "accuracy", "brier"][:count]
    figure = metrics_by_draws({"model": FOUR}, metrics=metrics)
    assert len(figure.axes) == count
    labelled = [axes.get_xlabel() == "posterior draws" for axes in figure.axes]
    assert labelled == [index >= count - 2 for index in range(count)]


def test_the_mean_is_a_line_across_in_the_colour_of_its_run():
    figure = metrics_by_draws({"a": FOUR, "b": FOUR}, mean={"b": {"nll": 0.9, "ece": None}})
    level = next(line for line in figure.axes[0].lines if line.get_linestyle() == ":" and len(line.get_xdata()))
    assert list(level.get_ydata()) == [0.9, 0.9]
    assert level.get_color() == figure.axes[0].lines[1].get_color()
    assert all(line.get_linestyle() != ":" for line in figure.axes[1].lines)
    assert legend_texts(figure) == ["a", "b", "mean weights alone"]


def test_legend_has_each_run_once_and_the_title():
    figure = metrics_by_draws({"a": FOUR, "b": FOUR}, title="Digits")
    assert legend_texts(figure) == ["a", "b"]
    assert figure.legends[0].get_title().get_text() == "Digits"


def test_is_a_picture_of_700_pixels():
    file = io.BytesIO()
    metrics_by_draws({"model": FOUR}).savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700


@pytest.mark.parametrize("draws", [None, 0, 1.5, math.nan, True])
def test_refuses_what_is_no_number_of_draws(draws):
    with pytest.raises(ValueError, match=r"run 'odd': num_samples is .*, and must be a whole number"):
        metrics_by_draws({"good": FOUR, "odd": [{"num_samples": draws, "nll": 1.0}]})


def test_refuses_the_same_number_twice():
    with pytest.raises(ValueError, match="run 'model' has the figures after 2 draws twice"):
        metrics_by_draws({"model": run(2, 1, 2, nll=1.0)})


@pytest.mark.parametrize("runs", [{}, {"model": []}, {"model": [{"num_samples": 1, "mse": 1.0}]}])
def test_refuses_nothing_to_draw(runs):
    with pytest.raises(ValueError, match="runs has none of the figures nll, ece, accuracy, brier"):
        metrics_by_draws(runs)


def test_refuses_the_mean_of_no_run():
    with pytest.raises(ValueError, match="mean has 'b', which runs has not: the names are a"):
        metrics_by_draws({"a": FOUR}, mean={"b": {"nll": 1.0}})


def test_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'metrics_by_draws needs matplotlib: pip install "hf_scorevi'):
        metrics_by_draws({"model": FOUR})
