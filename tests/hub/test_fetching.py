"""Pulling checkpoints over HTTP from a Hub that fails, moves on, or lies."""

import json
import re
import time

import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from peft import LoraConfig, get_peft_model
from safetensors.torch import load, save
from transformers import ViTForImageClassification

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import Evaluation, StoredPosterior, network, save_posterior, write_evaluations
from hf_scorevi.posterior import Posterior, select_parameters
from tests.hub_server import Fault, HubServer, online
from tests.hub_server.server import Answer, _Handler
from tests.tiny_models import tiny_vit

REPO, BASE = "user/tiny", "user/base"
MINE = ("calibration.json", "config.json", "model.safetensors", "posterior.safetensors", "posterior_config.json")
FIGURES = Evaluation("user/data", 60, 4, 0, {"predictive": {"nll": 0.3}, "mean": {"nll": 0.4}})


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


def files(folder, model=None, seed=0, shards="5GB"):
    """A checkpoint by file names."""
    model = model or tiny_vit(seed)
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig(family="diagonal", init_std=0.3))
    model.save_pretrained(folder, max_shard_size=shards)
    stored = StoredPosterior(PosteriorConfig(family="diagonal"), 24, 0.1)
    save_posterior(folder, model, posterior, stored, max_shard_size=shards)
    write_evaluations(folder, [FIGURES])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two checkpoints that differ in their means."""
    return [files(tmp_path_factory.mktemp("checkpoint"), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """The files of a base, and of an adapter with a head of its own."""
    folder = tmp_path_factory.mktemp("base")
    tiny_vit(num_labels=5).save_pretrained(folder)
    base = ViTForImageClassification.from_pretrained(folder)
    base.name_or_path = BASE
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"], init_lora_weights=False)
    own = files(tmp_path_factory.mktemp("adapter"), get_peft_model(base, lora))
    return {path.name: path.read_bytes() for path in folder.iterdir()}, own


def edited(own, name, **changes):
    return own | {name: json.dumps(json.loads(own[name]) | changes).encode()}


def pull(**kwargs):
    return BayesianModel.from_pretrained(REPO, **kwargs)


def head(model):
    return model.model.get_parameter("classifier.weight")


def means(checkpoint):
    return load(checkpoint["model.safetensors"])["classifier.weight"]


def asked(hub, repo=REPO):
    """The names of the files that were asked for, of any commit."""
    paths = [record.path.split("/", 5) for record in hub.requests if record.path.startswith(f"/{repo}/resolve/")]
    return {path[-1] for path in paths}


# --- what is fetched


def test_only_the_files_that_are_needed_are_fetched(hub, two):
    others = ["README.md", "pytorch_model.bin", "model.fp16.safetensors", "training_args.bin", "modeling.py", "x.json"]
    others += ["custom_generate/generate.py", "adapter_model.bin", "adapter_config.json", "head.safetensors"]
    hub.commit(REPO, two[0] | dict.fromkeys(others, b"{}"))
    model = pull()
    assert torch.equal(head(model), means(two[0]))
    assert [own.title for own in model.evaluations] == ["user/data"]
    assert asked(hub) == {*MINE, "generation_config.json"}


def test_a_second_pull_asks_for_nothing_but_the_commit(hub, two):
    hub.commit(REPO, two[0])
    pull()
    hub.requests.clear()
    pull()
    assert [(record.method, record.path) for record in hub.requests] == [
        ("HEAD", f"/{REPO}/resolve/main/posterior_config.json")
    ]


def test_branches_tags_and_commits_are_revisions(hub, two):
    first = hub.commit(REPO, two[0])
    HfApi().create_tag(REPO, tag="v1")
    hub.commit(REPO, two[1])
    hub.commit(REPO, two[0], branch="old/one")
    for revision, expected in ((None, 1), ("main", 1), ("v1", 0), (first, 0), ("old/one", 0)):
        assert torch.equal(head(pull(revision=revision)), means(two[expected]))


@pytest.mark.parametrize("after", ["/config.json", "/model.safetensors", "/posterior.safetensors"])
def test_all_files_are_of_one_commit_though_the_branch_moves_on(hub, two, after):
    first = hub.commit(REPO, two[0])
    moved = []

    def push_meanwhile(method, path):
        if path.endswith(after) and not moved:
            moved.append(hub.commit(REPO, two[1]))
        return False

    hub.faults.append(Fault(push_meanwhile))
    assert torch.equal(head(pull()), means(two[0]))
    hub.faults.clear()  # it was none
    assert moved and HfApi().model_info(REPO).sha == moved[0] != first
    assert torch.equal(head(pull()), means(two[1]))


def test_a_subfolder_holds_a_checkpoint_of_its_own(hub, two):
    hub.commit(REPO, two[0] | {f"runs/best one/{name}": data for name, data in two[1].items()})
    for subfolder in ("runs/best one", "./runs//best one/"):
        model = pull(subfolder=subfolder)
        assert torch.equal(head(model), means(two[1])) and model.evaluations
    with pytest.raises(PosteriorCheckpointError, match=r"user/tiny has no posterior_config\.json in 'runs': it holds"):
        pull(subfolder="runs")
    for outside in ("..", "/runs", "a/../../b", "a\\b"):
        with pytest.raises(ValueError, match="subfolder must lie within the checkpoint"):
            pull(subfolder=outside)


def test_a_private_repository_needs_a_token(hub, two, tmp_path):
    hub.commit(REPO, two[0], private=True)
    for name, token in (("nobody", False), ("eve", hub.add_user("eve"))):
        with pytest.raises(
            PosteriorCheckpointError, match=r"user/tiny is neither .* give the token of a user who may"
        ):
            pull(token=token, cache_dir=tmp_path / name)
    assert head(pull(token=hub.token)).shape == (3, 16)


def test_a_cache_of_ones_own_is_the_only_one_written_to(hub, two, tmp_path):
    hub.commit(REPO, two[0])
    pull(cache_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "models--user--tiny").is_dir() and not (tmp_path / "home" / "hub").exists()
    pull(cache_dir=tmp_path / "mine", local_files_only=True)
    with pytest.raises(PosteriorCheckpointError, match="is not in the cache, and the Hub was not asked"):
        pull(local_files_only=True)


@pytest.mark.parametrize("how", ["environment", "argument", "no network"])
def test_what_was_fetched_once_needs_no_hub(hub, two, adapter, how, monkeypatch):
    hub.commit(BASE, adapter[0])
    hub.commit(REPO, adapter[1])
    hub.commit("user/whole", two[0])
    for name in (REPO, "user/whole"):
        BayesianModel.from_pretrained(name)
    hub.requests.clear()
    if how == "environment":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if how == "no network":
        hub.__exit__()
    for name in (REPO, "user/whole"):
        assert BayesianModel.from_pretrained(name, local_files_only=how == "argument").evaluations
    assert hub.requests == []
    with pytest.raises(PosteriorCheckpointError, match="is not in the cache, and the Hub was not asked or did not"):
        BayesianModel.from_pretrained("user/other", local_files_only=how == "argument")


def test_a_sharded_checkpoint_comes_whole_and_its_indices_are_not_asked_for(hub, tmp_path):
    own = files(tmp_path, shards=4_000)
    assert "model.safetensors" not in own and "posterior.safetensors" not in own
    hub.commit(REPO, own)
    assert torch.equal(head(pull()), tiny_vit().classifier.weight)
    assert asked(hub) == {name for name in own if "index" not in name} | {"generation_config.json"}


# --- adapters


def test_an_adapter_comes_with_the_base_that_it_names(hub, adapter):
    base, own = adapter
    first = hub.commit(BASE, base | {"README.md": "A base", "pytorch_model.bin": "pickle"}, private=True)
    hub.commit(BASE, {"model.safetensors": b"of another day"})
    hub.commit(REPO, edited(own, "adapter_config.json", revision=first) | {"model.safetensors": b"not the mean"})
    model = pull()
    assert asked(hub) == {
        *("adapter_config.json", "adapter_model.safetensors", "calibration.json"),
        *("generation_config.json", "posterior_config.json", "posterior.safetensors"),
    }
    assert asked(hub, BASE) == {"config.json", "generation_config.json", "model.safetensors"}
    weights = load(base["model.safetensors"])
    assert torch.equal(
        model.model.get_base_model().vit.layers[0].attention.v_proj.weight,
        weights["vit.encoder.layer.0.attention.attention.value.weight"],
    )
    assert model.config.name_or_path == BASE


def test_a_base_of_shards_is_fetched_by_its_index(hub, adapter, tmp_path):
    tiny_vit(num_labels=5).save_pretrained(tmp_path, max_shard_size=4_000)
    shards = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    hub.commit(BASE, shards)
    hub.commit(REPO, adapter[1])
    assert pull().model.get_base_model().vit.layers[0].attention.v_proj.weight.any()
    assert asked(hub, BASE) == {*shards, "generation_config.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["../../x.safetensors", "/etc/x.safetensors", "evil.bin", "a\\x.safetensors", 7])
def test_the_index_of_a_base_names_safetensors_files_beside_it_or_is_refused(hub, adapter, name):
    index = json.dumps({"metadata": {}, "weight_map": {"classifier.weight": name}})
    hub.commit(BASE, {"config.json": adapter[0]["config.json"], "model.safetensors.index.json": index})
    hub.commit(REPO, adapter[1])
    with pytest.raises(PosteriorCheckpointError, match=r"index\.json does not name safetensors files beside it"):
        pull()
    assert not any("x" in name or "evil" in name for name in asked(hub, BASE) - {"model.safetensors.index.json"})


def test_a_base_of_pickles_is_not_read(hub, adapter):
    hub.commit(BASE, {"config.json": adapter[0]["config.json"], "pytorch_model.bin": b"pickle"})
    hub.commit(REPO, adapter[1])
    with pytest.raises(
        PosteriorCheckpointError, match=r"user/base has no model.* safetensors files alone.*base_model="
    ):
        pull()
    assert not any("bin" in name for name in asked(hub, BASE))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"base_model_name_or_path": "user/gone"}, "user/gone at main is neither a folder nor a repository"),
        ({"base_model_name_or_path": "/home/alice/vit"}, "/home/alice/vit at main is neither a folder nor the name"),
        ({"base_model_name_or_path": "../no_such_vit"}, r"\.\./no_such_vit at main is neither a folder nor the name"),
        ({"base_model_name_or_path": "https://evil.org/vit"}, "'https://evil.org/vit' .* is neither a folder nor a"),
        ({"base_model_name_or_path": r"\\evil.org\vit"}, "is neither a folder nor a repository"),
        ({"base_model_name_or_path": ["user/base"]}, r"\['user/base'\] .* is neither a folder nor a repository"),
        ({"base_model_name_or_path": None}, "does not say which model"),
        ({"revision": "gone"}, "user/base has no revision 'gone'"),
        ({"revision": "../../../refs"}, r"at '\.\./\.\./\.\./refs', which is neither"),
    ],
)
def test_a_base_that_cannot_be_had_says_what_to_do_and_is_not_needed_if_one_is_given(hub, adapter, named, message):
    hub.commit(BASE, adapter[0])
    hub.commit(REPO, edited(adapter[1], "adapter_config.json", **named))
    with pytest.raises(PosteriorCheckpointError, match=f"(?s){message}.*base_model=model"):
        pull()
    assert pull(base_model=tiny_vit(num_labels=5)).evaluations


def test_a_network_error_of_the_base_is_not_taken_for_damage(hub, adapter):
    hub.commit(BASE, adapter[0])
    hub.commit(REPO, adapter[1])
    hub.faults.append(Fault("GET .*/user/base/.*model.safetensors", status=500, times=99))
    with pytest.raises(HfHubHTTPError, match="500"):
        pull()
    hub.mend()
    assert pull().evaluations


# --- faults

EACH = ["posterior_config.json", "config.json", "/model.safetensors", "posterior.safetensors", "calibration.json"]


@pytest.mark.parametrize("file", EACH)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"drop": True},
        {"truncate": 100},
        {"corrupt": True},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_fault_that_passes_is_lived_through(hub, two, file, fault):
    hub.commit(REPO, two[0])
    hub.faults.append(Fault(f"GET .*{file}", **fault))
    model = pull()
    assert torch.equal(head(model), means(two[0])) and model.evaluations
    assert hub.faults[0].times == 0


@pytest.mark.parametrize("file", EACH[:4])
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"match": "HEAD", "status": 500}, PosteriorCheckpointError, "is not in the cache, and the Hub.* '?500 "),
        ({"match": "HEAD", "drop": True}, OSError, "The Hub broke off while"),
        ({"match": "GET", "status": 500}, HfHubHTTPError, "500 "),
        ({"match": "GET", "status": 429}, HfHubHTTPError, "429"),
        ({"match": "GET", "drop": True}, OSError, r"The Hub broke off while .* was fetched .*Try again"),
        ({"match": "GET", "truncate": 0}, OSError, r"The Hub broke off while .* was fetched .*Try again"),
        ({"match": "GET", "corrupt": True}, PosteriorCheckpointError, "was damaged on its way here, twice"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_fault_that_lasts_is_an_error_and_leaves_nothing_in_the_way(hub, two, tmp_path, file, fault, error, message):
    hub.commit(REPO, two[0])
    hub.faults.append(Fault(**fault | {"match": f"{fault['match']} .*{file}", "times": 999}))
    with pytest.raises(error, match=message):
        pull()
    assert hub.faults.pop().times < 999
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    model = pull()
    assert torch.equal(head(model), means(two[0])) and model.evaluations


def test_figures_that_cannot_be_had_now_are_missed_with_a_warning(hub, two, monkeypatch):
    said = []
    monkeypatch.setattr("hf_scorevi.hub.fetching.logger.warning", said.append)
    hub.commit(REPO, two[0])
    hub.faults.append(Fault("calibration.json", status=500, times=99))
    assert not pull().evaluations
    assert len(said) == 1 and "calibration.json of user/tiny is not in the cache" in said[0]
    hub.mend()
    assert pull().evaluations


def test_a_damaged_file_of_another_client_is_named_with_the_remedy(hub, two, tmp_path):
    hub.commit(REPO, two[0])
    hub.faults.append(Fault("GET .*posterior.safetensors", corrupt=True))
    HfApi().snapshot_download(REPO)  # which checks nothing
    with pytest.raises(
        PosteriorCheckpointError, match=r"posterior.safetensors is not the file .*Delete (\S+/blobs/\w+)"
    ) as e:
        pull()
    (damaged,) = [
        path for path in (tmp_path / "home").rglob("*") if path.is_file() and str(path) + "," in str(e.value)
    ]
    damaged.unlink()
    assert pull().evaluations


# --- checkpoints that are wrong at the Hub


def shifted(data, change):
    return save({key: change(value) for key, value in load(data).items()})


def agreeing(own, posterior):
    """The checkpoint with another posterior, and its hash."""
    import hashlib

    own = own | {"posterior.safetensors": posterior}
    return edited(
        own, "posterior_config.json", posterior_sha256={"posterior.safetensors": hashlib.sha256(posterior).hexdigest()}
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda a, b: a | {"model.safetensors": b["model.safetensors"]}, "belongs to another mean: model"),
        (lambda a, b: a | {"posterior.safetensors": b["model.safetensors"]}, "is not the file that was saved"),
        (lambda a, b: agreeing(a, a["posterior.safetensors"][:-9]), "truncated or damaged"),
        (lambda a, b: agreeing(a, shifted(a["posterior.safetensors"], lambda x: x * torch.inf)), "is not finite"),
        (lambda a, b: agreeing(a, shifted(a["posterior.safetensors"], lambda x: -x)), "is not positive everywhere"),
        (lambda a, b: edited(a, "posterior_config.json", format_version="2.0"), r"version 2\.0; .*Upgrade"),
        (lambda a, b: a | {"posterior_config.json": None}, r"user/tiny has no posterior_config.json: it holds no"),
        *(
            ((lambda a, b, name=name: a | {name: None}), f"user/tiny has no {name}: the checkpoint is incomplete")
            for name in ("config.json", "model.safetensors", "posterior.safetensors")
        ),
    ],
)  # fmt: skip
def test_a_wrong_checkpoint_is_refused_and_a_right_one_after_it_is_not(hub, two, wrong, message):
    own = wrong(*two)
    hub.commit(REPO, {name: data for name, data in own.items() if data is not None})
    with pytest.raises(PosteriorCheckpointError, match=message):
        pull()
    hub.commit(REPO, two[0])
    assert torch.equal(head(pull()), means(two[0]))


@pytest.mark.parametrize(
    "name", ["../../../x.safetensors", "/etc/x.safetensors", "a\\model.safetensors", "model.safetensors\n"]
)
@pytest.mark.parametrize("table", ["mean_sha256", "posterior_sha256"])
def test_files_outside_of_the_checkpoint_are_never_asked_for(hub, two, table, name):
    hub.commit(REPO, edited(two[0], "posterior_config.json", **{table: {name: "0"}}) | {name: b"secret"})
    with pytest.raises(
        PosteriorCheckpointError, match=r"posterior_config.json is damaged: it does not name the files"
    ):
        pull()
    assert asked(hub) == {"posterior_config.json"}


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("user/gone", {}, "user/gone is neither a folder nor a repository of the Hub that can be read"),
        (REPO, {"revision": "gone"}, "user/tiny has no revision 'gone': give a branch, tag or commit"),
        ("a/b/c", {}, "a/b/c is neither a folder nor the name of a repository"),
    ],
)
def test_what_does_not_exist_is_named(hub, two, name, kwargs, message):
    hub.commit(REPO, two[0])
    with pytest.raises(PosteriorCheckpointError, match=message):
        BayesianModel.from_pretrained(name, **kwargs)


# --- what is no Hub


@pytest.mark.parametrize("body", [b"", b'{"error": null}', b"<html>Log in</html>"])
@pytest.mark.parametrize("headers", ["its own", "the Hub's", "none"])
@pytest.mark.parametrize("method", ["HEAD", "GET", "HEAD|GET"])
def test_an_answer_that_is_no_hub_s_is_named_and_leaves_nothing_in_the_way(hub, two, method, headers, body):
    hub.commit(REPO, two[0])
    answer = hub.answer

    def other(request, signed):
        found = answer(request, signed)
        if re.fullmatch(method, request.method) and "/resolve/" in request.path:
            own = {"ETag": '"abc"', "X-Repo-Commit": "0" * 40} if headers == "its own" else {}
            return Answer(body, 200, found.headers if headers == "the Hub's" else own)
        return found

    hub.answer = other
    with pytest.raises((PosteriorCheckpointError, OSError), match=r"user/tiny|file|json"):
        pull()
    hub.answer = answer
    assert torch.equal(head(pull()), means(two[0]))


def test_a_hub_that_begins_a_file_and_is_silent_is_not_waited_for_without_end(hub, two, monkeypatch):
    hub.commit(REPO, two[0])
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    answer = hub.answer

    def late(request, signed):
        found = answer(request, signed)
        if request.method == "GET" and request.path.endswith("posterior_config.json"):
            time.sleep(60)
        return found

    hub.answer, start = late, time.monotonic()
    with pytest.raises(OSError, match=r"The Hub broke off while posterior_config\.json of user/tiny was fetched"):
        pull()
    assert time.monotonic() - start < 30


def test_a_file_that_comes_drop_by_drop_is_not_waited_for_without_end(hub, two, monkeypatch):
    hub.commit(REPO, two[0])
    monkeypatch.setattr(network, "SILENCE", 0.5)

    def drops(handler, answer, record):
        if "model.safetensors" not in record.path or record.method == "HEAD":
            return send(handler, answer, record)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        for i in range(len(answer.body)):
            handler.wfile.write(answer.body[i : i + 1])
            time.sleep(0.1)

    send = _Handler._send
    monkeypatch.setattr(_Handler, "_send", drops)
    hub.redirect_lfs, start = False, time.monotonic()
    with pytest.raises(OSError, match=r"The Hub broke off while model\.safetensors of user/tiny was fetched"):
        pull()
    assert time.monotonic() - start < 30
