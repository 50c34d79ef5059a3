"""A base that is not the one that an adapter was trained on is refused, by name."""

import json
import shutil

import pytest
import torch
from huggingface_hub import HfApi
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import ViTForImageClassification

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import StoredPosterior, save_posterior
from hf_scorevi.hub.untrusted import sha256
from hf_scorevi.posterior import Posterior, select_parameters
from tests.hub_server import HubServer, online
from tests.tiny_models import tiny_resnet, tiny_vit

MINE = "posterior_config.json"
PIXELS = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folders(tmp_path):
    """A base and an adapter that was put on it."""
    tiny_vit().save_pretrained(tmp_path / "base")
    model = wrapped(ViTForImageClassification.from_pretrained(tmp_path / "base"))
    return tmp_path / "base", write(tmp_path / "adapter", model)


def wrapped(base):
    torch.manual_seed(2)
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"], init_lora_weights=False)
    return get_peft_model(base, lora)


def write(folder, model):
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig())
    model.save_pretrained(folder)
    save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(), 24, 0.1))
    return folder


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def rewrite(base, change):
    path = base / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def refused(folder, message, **kwargs):
    with pytest.raises(PosteriorCheckpointError, match=message) as caught:
        BayesianModel.from_pretrained(folder, **kwargs)
    return str(caught.value)


def logits(model):
    with torch.no_grad():
        return model.eval()(pixel_values=PIXELS).logits


def test_weights_that_a_base_lacks_are_not_made_up(folders):
    base, adapter = folders
    rewrite(base, lambda tensors: {key: t for key, t in tensors.items() if "layer.0" not in key})
    said = refused(adapter, r"has no weights of the right shape for 16 tensors .*'vit\.layers\.0")
    assert "base_model=model" in said
    rewrite(base, lambda tensors: {f"zz.{key}": t for key, t in tensors.items()})
    refused(adapter, "has no weights of the right shape for 38 tensors")


def test_a_base_of_another_shape_is_refused(folders):
    adapter = folders[1]
    edit(adapter / MINE, lambda values: values["base_config"].update(intermediate_size=24))
    refused(adapter, r"has no weights of the right shape for 6 tensors .*mlp\.fc1\.bias")


def test_other_values_of_the_same_shapes_are_refused(folders):
    base, adapter = folders
    tiny_vit(seed=7).save_pretrained(base)
    said = refused(
        adapter, r"is not the one that the adapter .* was trained on: \d+ of its 40 tensors have other values"
    )
    assert "revision=" in said
    assert "base_model=model" in said


def test_a_single_number_is_enough(folders):
    base, adapter = folders
    key = "vit.encoder.layer.1.intermediate.dense.weight"
    rewrite(base, lambda tensors: tensors | {key: tensors[key].index_fill(0, torch.tensor([3]), 0.0)})
    refused(adapter, r"1 of its 40 tensors have other values, e\.g\. 'vit\.layers\.1\.mlp\.fc1\.weight'")


def test_a_head_that_the_adapter_brings_may_be_any(folders):
    base, adapter = folders
    expected = logits(BayesianModel.from_pretrained(adapter).model)
    for change in (
        lambda tensors: {key: t for key, t in tensors.items() if "classifier" not in key},
        lambda tensors: tensors | {"classifier.weight": torch.ones(9, 16), "classifier.bias": torch.ones(9)},
    ):
        rewrite(base, change)
        assert torch.equal(logits(BayesianModel.from_pretrained(adapter).model), expected)


def test_a_checkpoint_of_an_older_format_is_read_as_far_as_it_is_complete(folders):
    base, adapter = folders
    expected = logits(BayesianModel.from_pretrained(adapter).model)
    edit(adapter / MINE, lambda values: values.update(format_version="1.3") or values.pop("base"))
    assert torch.equal(logits(BayesianModel.from_pretrained(adapter).model), expected)
    rewrite(base, lambda tensors: {key: t for key, t in tensors.items() if "layernorm" not in key})
    refused(adapter, "has no weights of the right shape for .*they are not stored with the adapter")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            lambda: tiny_vit(num_labels=5),
            r"The base model given does not fit .*'classifier\.bias' has the shape \(5,\), the adapter's \(3,\) "
            r"\(it has 5 classes, the adapter's head 3\)\. Give the one",
        ),
        (lambda: tiny_vit(num_hidden_layers=1), "it lacks 16 of its tensors"),
        (lambda: tiny_vit(num_hidden_layers=3), "it has unexpected 16 of its tensors"),
        (
            lambda: tiny_vit(intermediate_size=24),
            r"'vit\.layers\.0\.mlp\.fc1\.bias' has the shape \(24,\), not \(16,\)",
        ),
        (lambda: tiny_vit(seed=5), r"\d+ of its 40 tensors have other values"),
        (tiny_resnet, "it lacks 38 of its tensors"),
    ],
)
def test_a_base_that_is_given_must_be_the_one(folders, base, message):
    said = refused(folders[1], message, base_model=base())
    assert "adapter_config.json" not in said
    assert "save the checkpoint again" not in said


def test_a_base_on_the_meta_device_is_refused(folders):
    with torch.device("meta"):
        base = tiny_vit()
    with pytest.raises(ValueError, match="weights on the meta device"):
        BayesianModel.from_pretrained(folders[1], base_model=base)


def test_the_same_base_in_another_precision_is_taken(folders):
    base, adapter = folders
    expected = logits(BayesianModel.from_pretrained(adapter).model)
    for dtype, tolerance in ((torch.float32, 0), (torch.float64, 0), (torch.bfloat16, 3e-2), (torch.float16, 3e-3)):
        given = ViTForImageClassification.from_pretrained(base, dtype=dtype)
        found = logits(BayesianModel.from_pretrained(adapter, base_model=given).model)
        assert torch.allclose(found, expected, rtol=0, atol=tolerance)
        assert torch.equal(found, expected) is (tolerance == 0)


def test_a_base_that_was_given_once_can_be_given_again(folders):
    given = ViTForImageClassification.from_pretrained(folders[0])
    first = logits(BayesianModel.from_pretrained(folders[1], base_model=given).model)
    assert torch.equal(logits(BayesianModel.from_pretrained(folders[1], base_model=given).model), first)


def test_weights_of_the_base_are_part_of_the_checkpoint(tmp_path):
    adapter = write(tmp_path / "adapter", wrapped(tiny_vit()))
    path = adapter / "base_weights.safetensors"
    kept = path.read_bytes()
    save_file({"zz": torch.ones(1)}, path)
    refused(adapter, r"belongs to another mean: base_weights\.safetensors")
    path.unlink()
    refused(adapter, r"base_weights\.safetensors")
    path.write_bytes(kept)
    assert BayesianModel.from_pretrained(adapter).posterior.names
    for change, message in (
        (lambda tensors: tensors | {"zz": torch.ones(1)}, "zz"),
        (lambda tensors: {key: t for key, t in tensors.items() if "cls_token" not in key}, "cls_token"),
        (lambda tensors: tensors | {"vit.layernorm.bias": torch.ones(3)}, r"vit\.layernorm\.bias"),
        (lambda tensors: tensors | {"vit.layernorm.bias": torch.full((16,), torch.nan)}, "not finite everywhere"),
    ):
        path.write_bytes(kept)
        save_file(change(load_file(path)), path)
        agree(adapter)
        refused(adapter, message)


def agree(folder):

    edit(
        folder / MINE,
        lambda values: values["mean_sha256"].update({p.name: sha256(p) for p in folder.glob("*weights*")}),
    )


# --- on the Hub


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pushed(hub, tmp_path, **kwargs):
    """The commits of two bases, the first of which has an adapter, and the logits of that."""
    for seed in (0, 1):
        tiny_vit(seed=seed).save_pretrained(tmp_path / f"base{seed}")
    first = hub.commit("user/base", files(tmp_path / "base0"))
    model = wrapped(ViTForImageClassification.from_pretrained("user/base", **kwargs))
    write(tmp_path / "adapter", model)
    return first, model


def test_the_commit_of_a_base_is_kept_when_its_repository_moves_on(hub, tmp_path):
    first, model = pushed(hub, tmp_path)
    assert json.loads((tmp_path / "adapter" / MINE).read_text())["base"]["commit"] == first
    hub.commit("user/base", files(tmp_path / "base1"))
    hub.commit("user/adapter", files(tmp_path / "adapter"))
    assert torch.equal(logits(BayesianModel.from_pretrained("user/adapter").model), logits(model))


def test_the_revision_that_a_base_was_loaded_at_is_found(hub, tmp_path):
    for seed in (0, 1):
        tiny_vit(seed=seed).save_pretrained(tmp_path / f"base{seed}")
    first = hub.commit("user/base", files(tmp_path / "base0"))
    hub.commit("user/base", files(tmp_path / "base1"))
    ViTForImageClassification.from_pretrained("user/base")  # is in the cache, too
    model = wrapped(ViTForImageClassification.from_pretrained("user/base", revision=first))
    adapter = write(tmp_path / "adapter", model)
    assert not (adapter / "base_weights.safetensors").exists()
    assert torch.equal(logits(BayesianModel.from_pretrained(adapter).model), logits(model))


def test_a_base_whose_commit_is_not_known_is_told_by_its_weights(hub, tmp_path):
    """It was loaded into another cache than the usual one."""
    _, model = pushed(hub, tmp_path, cache_dir=tmp_path / "elsewhere")
    adapter = tmp_path / "adapter"
    assert json.loads((adapter / MINE).read_text())["base"]["commit"] is None
    assert not (adapter / "base_weights.safetensors").exists()
    assert torch.equal(logits(BayesianModel.from_pretrained(adapter).model), logits(model))
    hub.commit("user/base", files(tmp_path / "base1"))
    said = refused(adapter, "'user/base' that is named is not the one that the adapter .* was trained on")
    assert "revision=" in said


def test_a_commit_that_is_gone_is_no_harm_while_the_weights_are_there(hub, tmp_path):
    _, model = pushed(hub, tmp_path)
    adapter = tmp_path / "adapter"
    edit(adapter / MINE, lambda values: values["base"].update(commit="0" * 40))
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    assert torch.equal(logits(BayesianModel.from_pretrained(adapter).model), logits(model))


def test_weights_of_the_base_are_pushed_and_fetched(hub, tmp_path):
    model = wrapped(tiny_vit(seed=3))
    loaded = BayesianModel.from_pretrained(write(tmp_path / "adapter", model))
    loaded.push_to_hub("user/adapter")
    again = BayesianModel.from_pretrained("user/adapter")
    assert torch.equal(logits(again.model), logits(model))
    tiny_vit().save_pretrained(tmp_path / "base")
    write(tmp_path / "other", wrapped(ViTForImageClassification.from_pretrained(tmp_path / "base")))
    BayesianModel.from_pretrained(tmp_path / "other").push_to_hub("user/adapter")
    assert "base_weights.safetensors" not in HfApi().list_repo_files("user/adapter")
