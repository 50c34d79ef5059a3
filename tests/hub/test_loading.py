import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_scorevi import PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import POSTERIOR_CONFIG_NAME, POSTERIOR_NAME, StoredPosterior, load_posterior, save_posterior
from hf_scorevi.hub.untrusted import sha256
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import tiny_resnet, tiny_vit


def edit_config(folder, **changes):
    path = folder / POSTERIOR_CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    tensors = load_file(folder / POSTERIOR_NAME)
    change(tensors)
    save_file(tensors, folder / POSTERIOR_NAME)
    agree(folder)


def agree(folder):
    """Let the configuration name the posterior's file as it now is: whoever can change one can change both."""
    edit_config(folder, posterior_sha256={POSTERIOR_NAME: sha256(folder / POSTERIOR_NAME)})


def test_round_trip_is_exact(saved):
    model, posterior, folder = saved
    again, stored = load_posterior(folder, type(model).from_pretrained(folder))
    assert again.names == posterior.names
    assert again.family.name == posterior.family.name
    for (name, suffix, value), (*keys, other) in zip(posterior.state(), again.state(), strict=True):
        assert [name, suffix] == keys and torch.equal(value, other)
    assert (stored.num_data, stored.temperature) == (50, 0.1)
    assert stored.config.exclude == ["layernorm"]


def damage_truncate(folder, key):
    path = folder / POSTERIOR_NAME
    path.write_bytes(path.read_bytes()[:-10])
    agree(folder)


def damage_bit(folder, key):
    path = folder / POSTERIOR_NAME
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def damage_delete(folder, key):
    (folder / POSTERIOR_NAME).unlink()


def damage_no_config(folder, key):
    (folder / POSTERIOR_CONFIG_NAME).unlink()


def damage_json(folder, key):
    (folder / POSTERIOR_CONFIG_NAME).write_text('{"format_version": "1.0", ')


def damage_missing_key(folder, key):
    edit_tensors(folder, lambda t: t.pop(key))


def damage_extra_key(folder, key):
    edit_tensors(folder, lambda t: t.update(intruder=torch.ones(())))


def damage_shape(folder, key):
    edit_tensors(folder, lambda t: t.update({key: torch.ones(2, 7)}))


def damage_negative(folder, key):
    edit_tensors(folder, lambda t: t.update({key: -t[key]}))


def damage_nan(folder, key):
    edit_tensors(folder, lambda t: t.update({key: t[key] * float("nan")}))


def damage_mean(folder, key):
    tiny_vit(seed=5).save_pretrained(folder)


def damage_format(folder, key):
    edit_config(folder, format_version="2.0")


def damage_field(folder, key):
    edit_config(folder, temperature=None)


def damage_family(folder, key):
    config = json.loads((folder / POSTERIOR_CONFIG_NAME).read_text())["posterior"]
    edit_config(folder, posterior=config | {"family": "cauchy"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, r"posterior\.safetensors cannot be read .*truncated or damaged"),
        (damage_bit, r"posterior\.safetensors is not the file that was saved: it differs from the SHA-256"),
        (damage_delete, r"posterior\.safetensors is missing"),
        (damage_no_config, "it holds no posterior"),
        (damage_json, "cannot be read as JSON"),
        (damage_missing_key, "lacks 1 of the .* tensors .*'classifier.weight"),
        (damage_extra_key, "has unexpected 1 of the .*'intruder'"),
        (damage_shape, r"precision of 'classifier.weight.*' has shape \(2, 7\).*does not fit its mean"),
        (damage_negative, "precision of 'classifier.weight.*' (is|has a diagonal that is) not positive everywhere"),
        (damage_nan, "precision of 'classifier.weight.*' is not finite everywhere"),
        (damage_mean, r"belongs to another mean: model\.safetensors differ"),
        (damage_format, r"format version 2\.0; this hf_scorevi reads up to 1\.4\. Upgrade"),
        (damage_field, "posterior_config.json is damaged"),
        (damage_family, "Unknown posterior family 'cauchy'"),
    ],
)
def test_a_posterior_that_does_not_fit_is_refused_by_name(saved, damage, message):
    model, posterior, folder = saved
    before = {name: value.clone() for name, value in model.state_dict().items()}
    damage(folder, "classifier.weight" + next(iter(posterior.family.state())))
    with pytest.raises(PosteriorCheckpointError, match=message):
        load_posterior(folder, model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("saved", ["isotropic"], indirect=True)
def test_a_posterior_before_its_files_were_named_is_still_read_and_one_after_that_is_not(saved):
    model, posterior, folder = saved
    contents = json.loads((folder / POSTERIOR_CONFIG_NAME).read_text())
    del contents["posterior_sha256"]
    (folder / POSTERIOR_CONFIG_NAME).write_text(json.dumps(contents | {"format_version": "1.1"}))
    assert load_posterior(folder, model)[0].names == posterior.names
    for version in ("1.2", "1.3", "1.10"):
        (folder / POSTERIOR_CONFIG_NAME).write_text(json.dumps(contents | {"format_version": version}))
        with pytest.raises(PosteriorCheckpointError, match="does not name the files of the mean and the posterior"):
            load_posterior(folder, model)


@pytest.mark.parametrize("version", [None, 1, "1", "one.two", "1.2.3", "-1.0", "1.0\n", ["1.0"], "1." + "9" * 20])
@pytest.mark.parametrize("saved", ["isotropic"], indirect=True)
def test_what_is_no_version_is_no_posterior(saved, version):
    model, _, folder = saved
    edit_config(folder, format_version=version)
    with pytest.raises(PosteriorCheckpointError, match=r"is not a posterior's configuration: .* is no format version"):
        load_posterior(folder, model)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_data": True}, {"num_data": "50"}, {"num_data": 0}, {"num_data": -1}, {"num_data": [50]},
        {"temperature": "1"}, {"temperature": 0}, {"temperature": -0.5},
        {"likelihood": [["kind", "nll"]]}, {"method": ""}, {"training": None}, {"posterior": []}, {"posterior": None},
    ],
)  # fmt: skip
@pytest.mark.parametrize("saved", ["isotropic"], indirect=True)
def test_settings_of_a_wrong_kind_are_refused(saved, changes):
    model, _, folder = saved
    edit_config(folder, **changes)
    with pytest.raises(PosteriorCheckpointError, match=r"posterior_config\.json is damaged"):
        load_posterior(folder, model)


@pytest.mark.parametrize("weights", [None, [], {}, "classifier.weight", [1], [["classifier.weight"]]])
@pytest.mark.parametrize("saved", ["isotropic"], indirect=True)
def test_a_posterior_over_nothing_is_refused(saved, weights):
    model, _, folder = saved
    edit_config(folder, weights=weights)
    with pytest.raises(PosteriorCheckpointError, match=r"posterior_config\.json is damaged: it does not name its"):
        load_posterior(folder, model)


def test_a_family_that_would_not_fit_into_memory_is_refused_before_it_is_tried(tmp_path):
    model = tiny_vit(hidden_size=72, num_attention_heads=2)
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig())
    model.save_pretrained(tmp_path)
    stored = StoredPosterior(PosteriorConfig(family="full"), num_data=50, temperature=0.1)
    save_posterior(tmp_path, model, posterior, stored)
    with pytest.raises(PosteriorCheckpointError, match=r"cannot be right: .*5184×5184 matrix"):
        load_posterior(tmp_path, model)


def test_the_wrong_architecture_is_refused(saved):
    _, _, folder = saved
    with pytest.raises(PosteriorCheckpointError, match="which ResNetForImageClassification does not have"):
        load_posterior(folder, tiny_resnet())
