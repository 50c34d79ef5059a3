import json

import pytest
from safetensors.torch import load_file

from hf_scorevi import PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import POSTERIOR_CONFIG_NAME, POSTERIOR_NAME, StoredPosterior, load_posterior, save_posterior


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
