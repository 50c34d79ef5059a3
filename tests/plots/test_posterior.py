import io
import sys

import numpy as np
import pytest

from hf_scorevi.plots import KINDS, posterior_diagram
from tests.tiny_models import tiny_vit


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def layered(num_layers):
    names = [f"vit.layers.{i}.{part}" for i in range(num_layers) for part in ("attn.q.weight", "mlp.fc1.weight")]
    return [(name, 0.1 * (1 + index % 5), 1000) for index, name in enumerate([*names, "classifier.weight"])]


def points(figure):
    """Kind to the points drawn for it."""
    axes = figure.axes[0]
    return {collection.get_label().split(" (")[0]: collection.get_offsets().data for collection in axes.collections}


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


HEAD = [("dense.weight", 0.5, 589_824), ("classifier.weight", 0.2, 7680), ("classifier.bias", 1.4, 10)]


def test_few_tensors_have_a_line_each():
    figure = posterior_diagram(HEAD)
    drawn = points(figure)
    np.testing.assert_allclose(drawn["other"], [[0.5, 0]])
    np.testing.assert_allclose(drawn["head"], [[0.2, 1]])
    np.testing.assert_allclose(drawn["bias"], [[1.4, 2]])
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == [name for name, _, _ in HEAD]
    assert texts(figure) == ["589,824", "7,680", "10", "weights"]
    assert axes.yaxis_inverted()  # the first above
    assert legend_texts(figure) == ["σ as large as the weights", "bias", "head", "other"]


def test_many_tensors_stand_in_the_order_of_the_model():
    figures = layered(24)
    figure = posterior_diagram(figures)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    drawn = np.concatenate(list(points(figure).values()))
    assert sorted(map(tuple, drawn.tolist())) == [
        (index, pytest.approx(value)) for index, (_, value, _) in enumerate(figures)
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(i) for i in range(24)]
    np.testing.assert_allclose(axes.get_xticks(), np.arange(24) * 2 + 0.5)
    assert texts(figure) == ["layers", "classifier"]
    assert "attention (24 k weights)" in legend_texts(figure)
    assert "head (1 k weights)" in legend_texts(figure)


def test_forty_tensors_have_a_line_each_and_forty_one_do_not():
    assert posterior_diagram(layered(20)[:40]).axes[0].get_xscale() == "log"
    assert posterior_diagram(layered(20)).axes[0].get_yscale() == "log"


def test_numbers_of_layers_are_left_out_where_there_is_no_room():
    axes = posterior_diagram(layered(200)).axes[0]
    numbers = [int(label.get_text()) for label in axes.get_xticklabels()]
    steps = set(np.diff(numbers).tolist())
    assert len(steps) == 1
    assert steps.pop() > 1


def shown_texts(axes):
    """The texts of the axes, of those at ticks only the ones that are in view."""
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True):
            if min(limits) <= place <= max(limits):
                yield label
        yield axis.label
    yield from axes.texts


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(HEAD, id="head"),
        pytest.param([(f"module_{'x' * 90}_{i}.weight", 0.5, 10**9) for i in range(40)], id="long names"),
        pytest.param(layered(24), id="24 layers"),
        pytest.param(layered(250), id="250 layers"),
        pytest.param([(f"weight_{i}", 0.5, 1) for i in range(60)], id="no layers"),
        pytest.param([(name, 0.3, p.numel()) for name, p in tiny_vit().named_parameters()], id="tiny ViT"),
    ],
)
def test_texts_lie_within_the_picture_and_cover_no_other(figures):
    figure = posterior_diagram(figures, title="A title")
    figure.draw_without_rendering()
    found = [text.get_window_extent() for text in shown_texts(figure.axes[0]) if text.get_text()]
    found.append(figure.legends[0].get_window_extent())
    width, height = figure.bbox.size
    for index, box in enumerate(found):
        assert min(box.x0, box.y0) >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
        for other in found[:index]:
            # A line's box is higher than its letters by a pixel or two on either side.
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            down = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across <= 1 or down <= 3


def test_kinds_differ_in_look_and_every_kind_has_one():
    names = {
        "embedding": "wte.weight",
        "attention": "attn.weight",
        "feed-forward": "mlp.weight",
        "convolution": "conv.weight",
        "normalisation": "norm.weight",
        "bias": "bias",
        "head": "classifier.weight",
        "LoRA A": "lora_A.weight",
        "LoRA B": "lora_B.weight",
        "other adapter": "ia3_l",
        "other": "w",
    }
    assert list(names) == list(KINDS)
    figure = posterior_diagram([(name, 0.5, 1) for name in names.values()])
    looks = {
        (tuple(drawn.get_facecolor()[0]), tuple(drawn.get_edgecolor()[0]), drawn.get_paths()[0].vertices.tobytes())
        for drawn in figure.axes[0].collections
    }
    assert len(looks) == len(KINDS)
    assert len({shape for _, _, shape in looks}) == len(KINDS) - 1  # biases are hollow circles, attention full ones
    assert legend_texts(figure)[1:] == list(KINDS)


def notes(figure):
    return figure.get_supxlabel()


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_tensors_of_zeros_are_counted_below(nothing):
    figure = posterior_diagram([HEAD[0], ("lora_B.weight", nothing, 5), HEAD[1]])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["dense.weight", "classifier.weight"]
    assert notes(figure) == "1 tensor of zero weights not shown"
    more = posterior_diagram([HEAD[0], *[("w", nothing, 5)] * 3])
    assert notes(more) == "3 tensors of zero weights not shown"


def test_tensors_of_zeros_keep_their_place_among_many():
    figures = layered(24)
    figures[3] = (figures[3][0], None, 1000)
    figure = posterior_diagram(figures)
    positions = np.concatenate(list(points(figure).values()))[:, 0]
    assert sorted(positions) == [0, 1, 2, *range(4, 49)]
    assert notes(figure) == "1 tensor of zero weights not shown"


def test_tensors_without_deviation_are_counted_below():
    assert notes(posterior_diagram([*HEAD, ("w", 0.0, 5)])) == "1 tensor of σ = 0 not shown"


def test_weights_near_zero_lie_on_the_edge():
    # A key's bias does not matter to a softmax: its gradient is zero, and so it stays, but for rounding.
    figure = posterior_diagram([*HEAD, ("attention.k_proj.bias", 2.2e7, 16), ("w", None, 5)])
    assert points(figure)["bias"][:, 0].tolist() == [1.4, 100.0]
    assert figure.axes[0].get_xlim()[1] < 200
    assert notes(figure) == (
        "1 tensor of weights near zero drawn at the edge (σ over 100 times as large); "
        "1 tensor of zero weights not shown"
    )


def test_no_note_where_nothing_is_left_out():
    assert notes(posterior_diagram(HEAD)) == ""


@pytest.mark.parametrize("values", [(0.5,), (1e-5, 2e-5), (3.0, 4.0), (0.001, 99.0)])
def test_the_scale_shows_every_point_and_where_sigma_is_as_large_as_the_weights(values):
    axes = posterior_diagram([("w", value, 5) for value in values]).axes[0]
    low, high = axes.get_xlim()
    assert low < min(*values, 1.0)
    assert high > max(*values, 1.0)
    assert axes.lines[0].get_xdata() == [1.0, 1.0]


def test_posterior_title():
    assert posterior_diagram(HEAD, title="Flowers").legends[0].get_title().get_text() == "Flowers"


@pytest.mark.parametrize("figures", [HEAD, layered(24)])
def test_posterior_is_a_picture_of_700_pixels_and_leaves_pyplot_alone(figures):
    before = "matplotlib.pyplot" in sys.modules
    file = io.BytesIO()
    posterior_diagram(figures).savefig(file, format="png")
    data = file.getvalue()
    assert int.from_bytes(data[16:20], "big") == 700
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_names_are_no_formulas():
    file = io.BytesIO()
    posterior_diagram([("$\\frac{.weight", 0.5, 5), ("$x$", 0.5, 5)]).savefig(file, format="png")
    posterior_diagram([(f"$\\frac{{_{i}", 0.5, 5) for i in range(50)]).savefig(file, format="png")


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ([], "nothing to draw"),
        ([("w", None, 5)], "nothing to draw"),
        ([("w", -0.5, 5)], "w: σ relative to the weights is -0.5, of 5 weights"),
        ([("w", float("-inf"), 5)], "w: σ relative to the weights is -inf"),
        ([("w", 0.5, 0)], "w: .* of 0 weights"),
    ],
)
def test_refuses_what_is_no_posterior(figures, message):
    with pytest.raises(ValueError, match=message):
        posterior_diagram(figures)


def test_posterior_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'posterior_diagram needs matplotlib: pip install "hf_scorevi\[plots\]"'):
        posterior_diagram(HEAD)
