"""Adapters' configurations, whose expressions need never end and whose numbers need have no bound."""

import json

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import StoredPosterior, save_posterior
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import tiny_vit

PIXELS = torch.linspace(-1, 1, 3 * 64).view(3, 1, 8, 8)
ENDLESS = [r"(\w+\.?)+!", r"(.*)*\1!", r"(?=(.*)*!)", "(e|e)" * 40 + "!"]


def write(folder, config, seed=0):
    base = tiny_vit()
    base.save_pretrained(folder / "base")
    base.name_or_path = str(folder / "base")
    torch.manual_seed(seed)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for parameter in select_parameters(model).values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig())
    model.save_pretrained(folder / "adapter")
    save_posterior(folder / "adapter", model, posterior, StoredPosterior(PosteriorConfig(), 24, 0.1))
    return model.eval(), folder / "adapter"


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def logits(model):
    with torch.no_grad():
        return model(pixel_values=PIXELS).logits


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=2, target_modules=r".*layers\.0.*\.(q_proj|v_proj)"),
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"], exclude_modules=r".*layers\.1\..*"),
        LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="layers"),
        LoraConfig(r=2, target_modules="all-linear", modules_to_save=["classifier"]),
        LoraConfig(r=2, target_modules=r"(?!.*layers\.0).*(fc1|q_proj)", use_dora=True),
        LoraConfig(
            r=2,
            lora_alpha=3,
            target_modules=["q_proj", "k_proj"],
            rank_pattern={r"layers\.0\..*q_proj": 1},
            alpha_pattern={r"^vit.*\.(q_proj|k_proj)": 5, "k_proj": 7},
        ),
        LoHaConfig(r=2, target_modules=r".*\.q_proj"),
        IA3Config(target_modules=r".*(q_proj|fc1)", feedforward_modules=r".*\.fc1"),
    ],
    ids=["target", "exclude", "layers", "all", "lookahead", "patterns", "loha", "ia3"],
)
def test_an_adapter_of_expressions_is_the_one_that_was_saved(tmp_path, config):
    model, folder = write(tmp_path, config)
    loaded = BayesianModel.from_pretrained(folder)
    assert torch.equal(logits(loaded.model), logits(model))
    names = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in loaded.model.named_parameters()} == names
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(BayesianModel.from_pretrained(tmp_path / "again").model), logits(model))


def test_a_module_whose_name_only_ends_like_one_that_is_named_gets_no_adapter(tmp_path):
    from torch import nn

    from hf_scorevi.hub.adapter_config import only_stored_modules

    base = nn.Module()
    base.a, base.b = nn.Module(), nn.Module()
    base.a.q, base.b.a = nn.Linear(2, 2), nn.Module()
    base.b.a.q = nn.Linear(2, 2)
    config = LoraConfig(target_modules=["a.q"])
    only_stored_modules(config, base)
    adapted = get_peft_model(base, config)
    assert {name.split(".lora_")[0] for name, _ in adapted.named_parameters() if "lora_" in name} == {
        "base_model.model.a.q"
    }


@pytest.mark.parametrize("expression", ENDLESS)
@pytest.mark.parametrize("field", ["target_modules", "exclude_modules", "layers_pattern"])
def test_expressions_for_modules_are_never_matched(tmp_path, field, expression):
    model, folder = write(tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    edit(folder, **{field: expression}, **({"layers_to_transform": [0]} if field == "layers_pattern" else {}))
    assert torch.equal(logits(BayesianModel.from_pretrained(folder).model), logits(model))


@pytest.mark.parametrize("expression", [*ENDLESS, ".*.*.*x", "(a|b)(a|b)", "a{1000}", "\\w+", "x" * 501])
@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern", "modules_to_save"])
def test_expressions_that_have_to_be_matched_are_simple_or_refused(tmp_path, field, expression):
    _, folder = write(tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    edit(folder, **{field: [expression] if field == "modules_to_save" else {expression: 2}})
    with pytest.raises(PosteriorCheckpointError, match=r"adapter_config\.json has .*(expression|modules_to_save)"):
        BayesianModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": [f"m{i}" for i in range(100_000)]}, "in target_modules, where at most 1,000 names"),
        ({"exclude_modules": [f"m{i}" for i in range(100_000)]}, "in exclude_modules, where at most"),
        ({"modules_to_save": [f"m{i}" for i in range(2000)]}, "in modules_to_save, where at most"),
        ({"modules_to_save": "classifier"}, "in modules_to_save, where at most"),
        ({"alpha_pattern": {f"m{i}": 1 for i in range(2000)}}, "in alpha_pattern, where at most"),
        ({"alpha_pattern": {f"m{i}.*": 1 for i in range(21)}}, "one of many"),
        ({"init_lora_weights": "pissa_niter_1000000000"}, "iterations, where at most 100"),
        ({"init_lora_weights": "pissa_niter_-1"}, "iterations, where at most 100"),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_iter": 10**9}}, "iterations, where at most 100"),
        ({"trainable_token_indices": list(range(10_000))}, "trainable_token_indices, too many"),
        ({"trainable_token_indices": {"x": [0] * 10_000}}, "trainable_token_indices, too many"),
        ({"peft_type": "OFT", "num_cayley_neumann_terms": 10**9}, "num_cayley_neumann_terms = 1000000000, too large"),
    ],
    ids=range(12),
)
def test_what_has_no_bound_is_refused(tmp_path, changes, message):
    _, folder = write(tmp_path, LoraConfig(r=2, target_modules=["q_proj"]))
    edit(folder, **changes)
    with pytest.raises(PosteriorCheckpointError, match=message):
        BayesianModel.from_pretrained(folder)
