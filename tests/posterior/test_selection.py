import pytest
from torch import nn

from hf_scorevi.posterior import select_parameters
from tests.tiny_models import tiny_vit


def test_trainable_is_the_default_and_keeps_the_models_order():
    model = tiny_vit()
    model.vit.embeddings.requires_grad_(False)
    chosen = select_parameters(model)
    assert list(chosen) == [name for name, p in model.named_parameters() if p.requires_grad]
    assert not any(name.startswith("vit.embeddings") for name in chosen)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("classifier", {"classifier.weight", "classifier.bias"}),
        ("classifier.bias", {"classifier.bias"}),
        ("vit.layers.1.*", {f"vit.layers.1.{n}" for n, _ in tiny_vit().vit.layers[1].named_parameters()}),
        ("q_proj", {f"vit.layers.{i}.attention.q_proj.{n}" for i in (0, 1) for n in ("weight", "bias")}),
        ("*.q_proj.bias", {f"vit.layers.{i}.attention.q_proj.bias" for i in (0, 1)}),
    ],
)
def test_patterns_name_modules_and_parameters(pattern, expected):
    assert set(select_parameters(tiny_vit(), [pattern])) == expected


def test_a_pattern_may_be_a_plain_string_and_exclude_takes_away():
    model = tiny_vit()
    assert set(select_parameters(model, "classifier", exclude=["bias"])) == {"classifier.weight"}


def test_a_callable_chooses():
    chosen = select_parameters(tiny_vit(), lambda name, p: p.dim() == 2)
    assert chosen
    assert all(p.dim() == 2 for p in chosen.values())


def test_a_tied_weight_is_chosen_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert list(select_parameters(model, ["0", "1"])) == ["0.weight"]


def test_nothing_trainable_is_an_error_that_names_the_model():
    model = tiny_vit().requires_grad_(False)
    with pytest.raises(ValueError, match="ViTForImageClassification has no parameters that require grad"):
        select_parameters(model)


@pytest.mark.parametrize(
    ("target", "exclude", "message"),
    [
        (["clasifier"], None, "target pattern 'clasifier' matches no parameter.*Close names: classifier"),
        (["vit.embeddings"], None, "matches only frozen weights"),
        ([], None, "target is an empty list"),
        (lambda name, p: False, None, "chose none of the"),
        ("classifier", ["classifier"], "leaves no Bayesian weights"),
        ("classifier", ["typo"], "exclude pattern 'typo' matches no parameter"),
    ],
)
def test_selecting_nothing_is_an_error_that_names_it(target, exclude, message):
    model = tiny_vit()
    model.vit.embeddings.requires_grad_(False)
    with pytest.raises(ValueError, match=message):
        select_parameters(model, target, exclude)
