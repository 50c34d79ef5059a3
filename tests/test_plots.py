import io
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_scorevi.metrics import ece, reliability_bins
from hf_scorevi.plots import KINDS, posterior_diagram, reliability_diagram, tensor_kind, wilson_interval
from hf_scorevi.plots._layers import Run, plain, runs, shortened
from tests.models import tiny_vit


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


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (500, 1000)])
def test_wilson_interval_agrees_with_scipy(successes, count):
    low, high = wilson_interval(np.array([successes / count]), np.array([count]))
    expected = binomtest(successes, count).proportion_ci(confidence_level=0.95, method="wilson")
    assert low[0] == pytest.approx(expected.low, abs=1e-7)
    assert high[0] == pytest.approx(expected.high, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        # ViT, BERT, GPT-2, T5, LLaMA, CLIP
        ("vit.embeddings.cls_token", "embedding"),
        ("vit.embeddings.patch_embeddings.projection.weight", "embedding"),
        ("vit.layers.0.attention.q_proj.weight", "attention"),
        ("vit.layers.0.attention.q_proj.bias", "bias"),
        ("vit.layers.0.layernorm_before.weight", "normalisation"),
        ("vit.layers.0.layernorm_before.bias", "bias"),
        ("vit.layers.0.mlp.fc1.weight", "feed-forward"),
        ("classifier.weight", "head"),
        ("bert.encoder.layer.0.attention.output.dense.weight", "attention"),
        ("bert.encoder.layer.0.attention.output.LayerNorm.weight", "normalisation"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "feed-forward"),
        ("bert.encoder.layer.0.output.dense.weight", "feed-forward"),
        ("bert.pooler.dense.weight", "head"),
        ("roberta.embeddings.LayerNorm.weight", "normalisation"),
        ("classifier.out_proj.weight", "head"),
        ("transformer.wte.weight", "embedding"),
        ("transformer.h.0.attn.c_proj.weight", "attention"),
        ("transformer.h.0.mlp.c_proj.weight", "feed-forward"),
        ("transformer.ln_f.weight", "normalisation"),
        ("score.weight", "head"),
        ("shared.weight", "embedding"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "attention"),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "embedding"),
        ("encoder.block.0.layer.1.DenseReluDense.wi.weight", "feed-forward"),
        ("model.embed_tokens.weight", "embedding"),
        ("model.layers.0.mlp.gate_proj.weight", "feed-forward"),
        ("model.layers.0.post_attention_layernorm.weight", "normalisation"),
        ("lm_head.weight", "head"),
        ("vision_model.pre_layrnorm.weight", "normalisation"),  # sic
        # convolutions: transformers, torchvision, timm
        ("resnet.embedder.embedder.convolution.weight", "convolution"),
        ("resnet.encoder.stages.0.layers.0.shortcut.normalization.weight", "normalisation"),
        ("classifier.1.weight", "head"),
        ("conv1.weight", "convolution"),
        ("layer1.0.bn1.weight", "normalisation"),
        ("layer1.0.downsample.0.weight", "convolution"),
        ("layer1.0.downsample.1.weight", "normalisation"),
        ("fc.weight", "head"),
        ("timm_model.fc.weight", "head"),
        ("convnext.encoder.stages.0.layers.0.layer_scale_parameter", "other"),
        ("convnext.encoder.stages.1.downsampling_layer.0.weight", "normalisation"),
        ("efficientnet.encoder.blocks.0.projection.project_bn.weight", "normalisation"),
        # biases of other names
        ("self_attn.in_proj_bias", "bias"),
        ("rnn.bias_ih_l0", "bias"),
        ("rnn.bias_hh_l1_reverse", "bias"),
        # adapters
        ("base_model.model.vit.layers.0.attention.q_proj.lora_A.default.weight", "LoRA A"),
        ("base_model.model.vit.layers.0.attention.q_proj.lora_B.default.weight", "LoRA B"),
        ("base_model.model.vit.layers.0.attention.q_proj.lora_B.default.bias", "LoRA B"),
        ("base_model.model.roberta.embeddings.word_embeddings.lora_embedding_A.default", "LoRA A"),
        ("base_model.model.vit.layers.0.attention.q_proj.lora_magnitude_vector.default.weight", "other adapter"),
        ("base_model.model.vit.layers.0.mlp.fc2.ia3_l.default", "other adapter"),
        ("base_model.model.classifier.modules_to_save.default.weight", "head"),
        ("base_model.model.classifier.modules_to_save.default.bias", "bias"),
        # names that say nothing
        ("logit_scale", "other"),
        ("0.weight", "other"),
        ("", "other"),
    ],
)
def test_kind_of_a_tensor(name, kind):
    assert tensor_kind(name) == kind


def test_every_kind_of_a_tiny_vit_is_known():
    kinds = {tensor_kind(name) for name, _ in tiny_vit().named_parameters()}
    assert kinds == {"embedding", "attention", "feed-forward", "normalisation", "bias", "head"}


def test_names_lose_the_wrappers_of_peft():
    assert plain("base_model.model.vit.layers.0.q_proj.lora_A.default.weight") == "vit.layers.0.q_proj.lora_A.weight"
    assert plain("base_model.model.classifier.modules_to_save.default.bias") == "classifier.bias"
    assert plain("classifier.weight") == "classifier.weight"


def test_long_names_are_shortened_in_the_middle_and_stay_different():
    names = ["abcdefghij.weight", "abcdefghij.bias", "short"]
    assert shortened(names, limit=9, longest=17) == ["abcd…ight", "abcd…bias", "short"]
    assert shortened(["a" * 9 + "x" + "a" * 9, "a" * 9 + "y" + "a" * 9], limit=5, longest=19) == [
        "a" * 9 + "x" + "a" * 9,
        "a" * 9 + "y" + "a" * 9,
    ]
    assert [len(name) for name in shortened(["a" * 30, "a" * 14 + "b" + "a" * 15], limit=5, longest=9)] == [9, 9]


def test_blocks_of_a_transformer():
    names = [
        "vit.embeddings.cls_token",
        "vit.embeddings.patch_embeddings.projection.weight",
        *(f"vit.layers.{i}.{part}" for i in range(7) for part in ("attention.q_proj.weight", "mlp.fc1.weight")),
        "vit.layernorm.weight",
        "classifier.weight",
        "classifier.bias",
    ]
    layers = [Run(2 + 2 * i, 4 + 2 * i, "layers", str(i)) for i in range(7)]
    after = [Run(16, 17, "layernorm", ""), Run(17, 19, "classifier", "")]
    assert runs(names) == [Run(0, 2, "embeddings", ""), *layers, *after]
    assert runs([f"base_model.model.{name}" for name in names]) == runs(names)


def test_blocks_of_an_encoder_and_a_decoder_are_told_apart():
    names = [f"{side}.block.{i}.layer.0.q.weight" for side in ("encoder", "decoder") for i in range(3)]
    assert [(run.stem, run.number) for run in runs(names)] == [
        ("encoder.block", "0"),
        ("encoder.block", "1"),
        ("encoder.block", "2"),
        ("decoder.block", "0"),
        ("decoder.block", "1"),
        ("decoder.block", "2"),
    ]


def test_stages_are_divided_into_their_layers():
    names = [
        "net.embedder.convolution.weight",
        "net.stages.0.layers.0.conv.weight",
        "net.stages.0.layers.1.conv.weight",
        "net.stages.1.downsampling_layer.0.weight",
        "net.stages.1.downsampling_layer.1.weight",
        "net.stages.1.layers.0.layer.0.conv.weight",
        "net.stages.1.layers.0.layer.1.conv.weight",
        "net.stages.1.layers.1.conv.weight",
        "net.stages.1.layers.2.conv.weight",
        "net.stages.1.norm.weight",
        "classifier.1.weight",
    ]
    assert runs(names) == [
        Run(0, 1, "embedder", ""),
        Run(1, 2, "stages.0", "0"),
        Run(2, 3, "stages.0", "1"),
        Run(3, 7, "stages.1", "0"),
        Run(7, 8, "stages.1", "1"),
        Run(8, 10, "stages.1", "2"),
        Run(10, 11, "classifier", ""),
    ]


def test_names_without_numbers_are_runs_of_their_modules():
    assert runs(["encoder.weight", "encoder.bias", "w"]) == [Run(0, 2, "encoder", ""), Run(2, 3, "w", "")]


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
