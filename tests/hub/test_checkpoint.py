import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import POSTERIOR_CONFIG_NAME, POSTERIOR_NAME, StoredPosterior, load_posterior, save_posterior
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import tiny_vit


def test_keys_are_those_of_the_means_file(saved):
    _, _, folder = saved
    keys = {key.removesuffix(".factor") for key in load_file(folder / POSTERIOR_NAME)}
    assert "vit.encoder.layer.0.attention.attention.query.weight" in keys
    assert keys < set(load_file(folder / "model.safetensors"))
    assert not [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]


def test_saving_beside_no_mean_is_refused(saved, tmp_path):
    model, posterior, _ = saved
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PosteriorCheckpointError, match="holds no weights"):
        save_posterior(empty, model, posterior, StoredPosterior(PosteriorConfig(), 1, 1.0))
    assert not list(empty.iterdir())


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    model, posterior, folder = saved
    before = (folder / POSTERIOR_NAME).read_bytes()

    def half_way(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("hf_scorevi.hub.checkpoint.save_file", half_way)
    with pytest.raises(OSError, match="disk full"):
        save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(), 1, 1.0))
    assert (folder / POSTERIOR_NAME).read_bytes() == before
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


def test_a_large_posterior_becomes_shards_with_an_index_and_a_smaller_one_after_it_leaves_none(saved):
    model, posterior, folder = saved
    stored = StoredPosterior(PosteriorConfig(family=posterior.family.name), 50, 0.1)
    save_posterior(folder, model, posterior, stored, max_shard_size=100)
    shards = sorted(path.name for path in folder.glob("posterior-*.safetensors"))
    assert len(shards) > 1 and not (folder / POSTERIOR_NAME).exists()
    index = json.loads((folder / f"{POSTERIOR_NAME}.index.json").read_text())
    assert set(index["weight_map"].values()) == set(shards)
    keys = {key: shard for shard in shards for key in load_file(folder / shard)}
    assert keys == index["weight_map"]
    again, _ = load_posterior(folder, model)
    pairs = zip(posterior.state(), again.state(), strict=True)
    assert all((a[2] == b[2]).all() for a, b in pairs)

    save_posterior(folder, model, posterior, stored)
    assert sorted(path.name for path in folder.glob("posterior*")) == [POSTERIOR_NAME, POSTERIOR_CONFIG_NAME]
    load_posterior(folder, model)


def test_the_configuration_describes_each_tensor(saved):
    model, posterior, folder = saved
    contents = json.loads((folder / POSTERIOR_CONFIG_NAME).read_text())
    assert contents["num_parameters"] == sum(p.numel() for p in model.parameters()) > contents["num_weights"]
    assert list(contents["summary"]) == contents["weights"]
    weight = model.classifier.weight
    i = posterior.names.index("classifier.weight")
    std, scale, size = contents["summary"]["classifier.weight"]
    assert size == weight.numel()
    assert scale == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-6)
    assert std**2 == pytest.approx(posterior.family.variance(i).mean().item(), rel=1e-5)


def save(model, folder, family="isotropic") -> None:
    config = PosteriorConfig(family=family)
    posterior = Posterior.initialise(select_parameters(model), config)
    BayesianModel(model, posterior, StoredPosterior(config, 24, 0.1, {"kind": "nll"})).save_pretrained(folder)


def adapter_on(base):
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    torch.nn.init.ones_(model.get_parameter("base_model.model.vit.layers.0.attention.q_proj.lora_B.default.weight"))
    return model


def assert_loads(folder, model, base_model=None) -> None:
    loaded = BayesianModel.from_pretrained(folder, base_model=base_model).model.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_a_folder_holds_the_model_that_was_saved_last(tmp_path):
    """Whole models and adapters, of several families, one after the other."""
    first, adapter, last = tiny_vit(seed=1), adapter_on(tiny_vit(seed=2)), tiny_vit(seed=3, num_hidden_layers=1)
    save(first, tmp_path, "diagonal")
    assert_loads(tmp_path, first)
    save(adapter, tmp_path)
    assert_loads(tmp_path, adapter, tiny_vit(seed=2))
    assert not (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "config.json").exists()
    save(last, tmp_path, "low_rank")
    assert_loads(tmp_path, last)
    assert not list(tmp_path.glob("adapter_*"))


def test_an_adapter_beside_its_base_leaves_that_alone(tmp_path):
    base = tiny_vit(seed=2)
    base.save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    adapter = adapter_on(type(base).from_pretrained(tmp_path))
    save(adapter, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "config.json").is_file()
    assert_loads(tmp_path, adapter)
