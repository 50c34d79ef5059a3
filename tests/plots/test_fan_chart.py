import io
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from hf_scorevi.plots import fan_chart
from hf_scorevi.predictive import ForecastOutput

LEVELS = (0.95, 0.1, 0.5, 0.05, 0.9, 0.3)  # in any order; 0.3 has no partner
B, L, H, C = 2, 30, 4, 3


def forecast(horizon=H, channels=C, levels=LEVELS, paths=6, epistemic=1.0):
    """Each number tells where it stands."""
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(B, horizon, channels, generator=random)
    normal = torch.distributions.Normal(0.0, 1.0)
    return ForecastOutput(
        mean=mean,
        epistemic_variance=torch.full_like(mean, epistemic),
        aleatoric_variance=torch.full_like(mean, 3.0),
        quantiles=torch.stack([mean + 2 * normal.icdf(torch.tensor(level)) for level in levels]),
        quantile_levels=tuple(levels),
        num_samples=16,
        paths=torch.randn(paths, *mean.shape, generator=random) if paths else None,
    )


@pytest.fixture
def past():
    return np.random.default_rng(0).normal(size=(B, L, C))


@pytest.fixture
def future():
    return np.random.default_rng(1).normal(size=(B, H, C))


def line(axes, label):
    (found,) = [own for own in axes.lines if own.get_label() == label]
    return found.get_xydata()


def edges(band):
    """Lower and upper edge of a `fill_between`, by step."""
    corners = band.get_paths()[0].vertices
    x = np.unique(corners[:, 0])
    return np.array([[own.min(), own.max()] for own in (corners[corners[:, 0] == value, 1] for value in x)])


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("window", [0, 1])
def test_past_median_and_future_are_the_window_s(past, future, window):
    out = forecast()
    figure = fan_chart(out, torch.tensor(past), future, window=window, past_steps=L)
    assert len(figure.axes) == C
    for channel, axes in enumerate(figure.axes):
        own = [artist for artist in axes.lines if len(artist.get_xdata()) == L]
        np.testing.assert_allclose(own[0].get_xydata(), np.stack([range(1 - L, 1), past[window, :, channel]], axis=1))
        ends = [artist.get_ydata() for artist in axes.lines if len(artist.get_xdata()) == H + 1]
        expected = [out.quantiles[2, window, :, channel], torch.tensor(future[window, :, channel])]
        for found, values in zip(ends[-2:], expected, strict=True):
            np.testing.assert_allclose(found, [past[window, -1, channel], *values.tolist()], rtol=1e-6)


def test_bands_are_the_central_intervals_the_widest_first_and_darker_inwards(past):
    out = forecast()
    axes = fan_chart(out, past, window=1).axes[0]
    assert [band.get_label() for band in axes.collections] == ["90 % interval", "80 % interval"]
    for band, level in zip(axes.collections, (0.9, 0.8), strict=True):
        lower, upper = (end[1, :, 0].numpy() for end in out.interval(level))
        np.testing.assert_allclose(edges(band)[1:], np.stack([lower, upper], axis=1), rtol=1e-6)
        np.testing.assert_allclose(edges(band)[0], past[1, -1, 0])  # from the last observation
    light, dark = (band.get_facecolor()[0, :3].mean() for band in axes.collections)
    assert dark < light


def test_the_weights_part_has_the_level_of_the_widest_interval(past):
    out = forecast(epistemic=4.0)
    axes = fan_chart(out, past).axes[0]
    (label,) = [own.get_label() for own in axes.lines if "weights" in own.get_label()]
    assert label == "90 % from weights alone"
    upper = out.mean[0, :, 0] + 2 * torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(0.95))
    lower = 2 * out.mean[0, :, 0] - upper
    found = [own.get_ydata()[1:] for own in axes.lines if own.get_color() == "#D55E00"]
    np.testing.assert_allclose(found, [lower.numpy(), upper.numpy()], rtol=1e-5)


def test_one_draw_knows_nothing_of_the_weights(past):
    assert not any("weights" in text for text in texts(fan_chart(forecast(epistemic=0.0), past)))


def test_without_a_median_the_mean_is_drawn(past):
    out = forecast(levels=(0.25, 0.75))
    found = line(fan_chart(out, past).axes[0], "mean")
    np.testing.assert_allclose(found[1:, 1], out.mean[0, :, 0], rtol=1e-6)


def test_paths_are_the_first_of_the_forecast_s(past):
    out = forecast()
    axes = fan_chart(out, past, num_paths=2, window=1).axes[1]
    found = [own.get_ydata()[1:] for own in axes.lines if own.get_color() == "0.35"]
    np.testing.assert_allclose(found, out.paths[:2, 1, :, 1], rtol=1e-6)


def test_legend_names_everything_once(past, future):
    figure = fan_chart(forecast(), past, future, num_paths=3, title="Rivers")
    expected = ["90 % interval", "80 % interval", "sample paths", "90 % from weights alone", "median", "past"]
    assert sorted(texts(figure)) == sorted([*expected, "what came"])
    assert sorted(texts(fan_chart(forecast(), past))) == sorted(set(expected) - {"sample paths"})
    assert figure.legends[0].get_title().get_text() == "Rivers"


def test_channels_by_name_or_number_in_the_order_given(past):
    names = ["load (MW)", "wind", "$x_2$"]
    figure = fan_chart(forecast(), past, names=names, channels=["$x_2$", 0])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["$x_2$", "load (MW)"]
    np.testing.assert_array_equal(line(figure.axes[0], "past")[:, 1], past[0, -24:, 2])


def test_of_many_channels_eight_are_drawn():
    figure = fan_chart(forecast(channels=40), np.zeros((B, L, 40)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"channel {i}" for i in range(8)]


@pytest.mark.parametrize(("horizon", "given", "drawn"), [(4, None, 24), (13, None, 26), (20, None, L), (4, 3, 3)])
def test_as_much_past_as_is_asked_for_or_two_horizons(past, horizon, given, drawn):
    figure = fan_chart(forecast(horizon), past, past_steps=given)
    assert len(line(figure.axes[0], "past")) == drawn


def test_time_stamps_are_on_the_axis(past):
    times = pd.date_range("2024-03-01", periods=L + H, freq="h", tz="Europe/Berlin")
    figure = fan_chart(forecast(), past, times=times)
    assert figure.axes[-1].get_xlabel() == "time"
    figure.draw_without_rendering()
    assert any(":" in tick.get_text() for tick in figure.axes[-1].get_xticklabels())
    (past_line,) = [own for own in figure.axes[0].lines if own.get_label() == "past"]
    assert past_line.get_xdata()[-1] == times[L - 1].tz_localize(None).to_datetime64()


def test_steps_are_whole_numbers(past):
    figure = fan_chart(forecast(1), past, past_steps=2)
    assert figure.axes[-1].get_xlabel() == "steps after the last observation"
    figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in figure.axes[-1].get_xticks())


@pytest.mark.parametrize("at", [-1, 10])
def test_missing_values_of_the_past_are_gaps(past, at):
    past[0, at, 0] = np.nan
    figure = fan_chart(forecast(), past[0], past_steps=L)
    found = line(figure.axes[0], "past")[:, 1]
    assert np.isnan(found).sum() == 1
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("channels", [1, 7])
def test_nothing_covers_anything_and_the_picture_has_700_pixels(channels):
    names = ["a rather long name of what was measured, with its place and its unit (kg m⁻³) " * 2] * channels
    times = pd.date_range("2024-03-01", periods=L + H, freq="D")
    figure = fan_chart(forecast(channels=channels), np.zeros((B, L, channels)), names=names, times=times, title="t")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert int.from_bytes(file.getvalue()[16:20], "big") == 700
    legend = figure.legends[0].get_window_extent()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert legend.x1 <= figure.bbox.width
    assert legend.y0 >= boxes[0].y1 - 1
    for upper, lower in pairwise(boxes):
        assert upper.y0 >= lower.y1 - 1
    assert max(box.x1 for box in boxes) <= figure.bbox.width + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 2}, "window is 2, and the forecast has the windows 0 to 1"),
        ({"window": -1}, "window is -1"),
        ({"channels": [3]}, "there is no channel 3: there are 3, channel 0, channel 1"),
        ({"channels": [-1]}, "there is no channel -1"),
        ({"channels": ["load"]}, "there is no channel 'load'"),
        ({"channels": []}, "channels is empty"),
        ({"names": ["a", "b"]}, "names has 2 entries, and the forecast 3 channels"),
        ({"num_paths": 7}, "num_paths is 7, and the forecast has 6 paths"),
        ({"num_paths": -1}, "num_paths is -1"),
        ({"past_steps": 0}, "past_steps is 0"),
        ({"past_values": np.zeros((3, L, C))}, r"past_values must have the shape \[2, steps, 3\].* not \[3, 30, 3\]"),
        ({"past_values": np.zeros((L, 2))}, r"past_values must have the shape .* or \[steps, 3\].* not \[30, 2\]"),
        ({"past_values": np.zeros((0, C))}, r"past_values must have the shape .* not \[0, 3\]"),
        ({"future_values": np.zeros((H + 1, C))}, "future_values has 5 steps and the forecast 4"),
        ({"future_values": np.zeros(H)}, r"future_values must have the shape .* not \[4\]"),
        ({"times": range(5)}, r"times must have the shape \[34\]"),
    ],
)
def test_names_what_is_wrong(past, arguments, message):
    with pytest.raises(ValueError, match=message):
        fan_chart(forecast(), **({"past_values": past} | arguments))


def test_refuses_a_forecast_without_intervals_or_paths(past):
    with pytest.raises(ValueError, match=r"quantile levels \[0.5, 0.9\] are no central interval's ends"):
        fan_chart(forecast(levels=(0.5, 0.9)), past)
    with pytest.raises(ValueError, match="num_paths is 1, and the forecast has 0 paths"):
        fan_chart(forecast(paths=0), past, num_paths=1)


def test_without_matplotlib_names_the_extra(past, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'fan_chart needs matplotlib: pip install "hf_scorevi'):
        fan_chart(forecast(), past)
