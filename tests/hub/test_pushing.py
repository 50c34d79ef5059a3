import json
import re

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForImageClassification, ViTImageProcessorPil, pipeline

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, PushError
from hf_scorevi.hub import (
    POSTERIOR_CONFIG_NAME,
    CardMetadata,
    Evaluation,
    StoredPosterior,
    push_checkpoint,
    push_figures,
    save_posterior,
    write_evaluations,
)
from hf_scorevi.posterior import Posterior, select_parameters
from tests.hub_server import Fault, HubServer, online, run_client
from tests.hub_server.server import Answer
from tests.tiny_models import images, tiny_vit

REPO = "user/tiny"
PIXELS = images(9, seed=3).columns["pixel_values"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


def write(folder, model=None, evaluations=(), shards=("5GB", "5GB")):
    model = model or tiny_vit()
    config = PosteriorConfig(target=["classifier"], init_std=0.3)  # few tensors for the picture on each card
    posterior = Posterior.initialise(select_parameters(model, config.target), config)
    model.save_pretrained(folder, max_shard_size=shards[0])
    save_posterior(folder, model, posterior, StoredPosterior(config, 24, 0.1), max_shard_size=shards[1])
    write_evaluations(folder, evaluations)
    return folder


@pytest.fixture
def folder(tmp_path):
    """A checkpoint with figures, an image processor, and what must not leave the machine."""
    metrics = {"predictive": {"accuracy": 0.9, "nll": 0.3}, "mean": {"accuracy": 0.9, "nll": 0.4}}
    folder = write(tmp_path / "own", evaluations=[Evaluation("user/data", 60, 4, 0, metrics, split="test")])
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    for name in ("training_args.bin", "_notes.txt", ".secret", "optimizer.pt"):
        (folder / name).write_text("private")
    for name in ("checkpoint-3", "incomplete-checkpoint-6", "runs"):
        (folder / name).mkdir()
        (folder / name / "x.json").write_text("{}")
    return folder


def files(hub, revision="main"):
    return set(hub.repos[REPO].find(revision).tree)


def commits(hub):
    return [commit.title for commit in HfApi().list_repo_commits(REPO)]


def test_one_commit_has_the_checkpoint_and_its_card_and_nothing_private(hub, folder):
    push_checkpoint(folder, REPO, commit_message="All of it")
    assert commits(hub)[0] == "All of it" and len(commits(hub)) == 2  # the Hub's own is the first
    assert files(hub) == {
        ".gitattributes", "README.md", "calibration.json", "config.json", "model.safetensors", "posterior.png",
        "posterior.safetensors", "posterior_config.json", "preprocessor_config.json", "runs/x.json",
    }  # fmt: skip
    results = HfApi().model_info(REPO).card_data.eval_results
    assert {(r.metric_type, r.metric_value, r.dataset_name) for r in results} == {
        ("accuracy", 0.9, "user/data (test)"), ("nll", 0.3, "user/data (test)"), ("nll", 0.4, "user/data (test)")
    }  # fmt: skip


def test_the_same_push_again_makes_no_commit(hub, folder):
    first = push_checkpoint(folder, REPO)
    uploads = len([r for r in hub.requests if r.method == "PUT"])
    assert push_checkpoint(folder, REPO).oid == first.oid
    assert len([r for r in hub.requests if r.method == "PUT"]) == uploads


def test_a_pull_gives_what_was_pushed_and_others_lose_nothing(hub, folder):
    push_checkpoint(folder, REPO)
    own, pulled = BayesianModel.from_pretrained(folder), BayesianModel.from_pretrained(REPO)
    expected = own.predict(pixel_values=PIXELS, seed=1)
    assert torch.equal(pulled.predict(pixel_values=PIXELS, seed=1).samples, expected.samples)
    assert pulled.evaluations == own.evaluations
    plain = AutoModelForImageClassification.from_pretrained(REPO).eval()
    with torch.no_grad():
        assert torch.equal(plain(pixel_values=PIXELS).logits, own.model(pixel_values=PIXELS).logits)
    assert pipeline("image-classification", model=REPO).model.config.num_labels == 3


def test_a_stranger_s_fresh_process_predicts_the_same(hub, folder):
    push_checkpoint(folder, REPO, private=True)
    expected = BayesianModel.from_pretrained(folder).predict(pixel_values=PIXELS, seed=1).probs
    code = """
        import json
        from hf_scorevi import BayesianModel
        from tests.tiny_models import images
        model = BayesianModel.from_pretrained("user/tiny", revision="main")
        print(json.dumps(model.predict(pixel_values=images(9, seed=3).columns["pixel_values"], seed=1).probs.tolist()))
    """
    assert torch.tensor(json.loads(run_client(hub, code).splitlines()[-1])).equal(expected)


def test_a_bayesian_model_pushes_itself_to_a_branch_and_by_a_pull_request(hub, folder):
    model = BayesianModel.from_pretrained(folder)
    model.push_to_hub(REPO, private=True, metadata=CardMetadata(license="mit", datasets=["user/data"]))
    assert HfApi().model_info(REPO).private
    card = ModelCard.load(REPO).data
    assert (card.license, card.datasets, card.library_name) == ("mit", ["user/data"], "transformers")
    model.push_to_hub(REPO, revision="dev")
    other = hub.add_user("other")
    with torch.no_grad():
        model.model.classifier.bias.add_(1)
    with pytest.raises(PushError, match=r"could not be pushed to user/tiny: .*403"):
        model.push_to_hub(REPO, token=other)
    HfApi().update_repo_settings(REPO, private=False)
    request = model.push_to_hub(REPO, token=other, create_pr=True)
    pulled = BayesianModel.from_pretrained(REPO, revision=request.pr_revision)
    assert torch.equal(pulled.model.classifier.bias, model.model.classifier.bias)
    for revision in ("main", "dev"):
        assert not torch.equal(BayesianModel.from_pretrained(REPO, revision=revision).model.classifier.bias,
                               model.model.classifier.bias)  # fmt: skip


def test_what_people_wrote_on_the_hub_stays(hub, folder):
    push_checkpoint(folder, REPO)
    text = hub.repos[REPO].find("main").tree["README.md"].data.decode()
    hub.commit(REPO, {"README.md": text.replace("# tiny\n", "# tiny\n\nMade for the *zoo*.\n").encode()})
    (folder / "calibration.json").unlink()
    push_checkpoint(folder, REPO)
    card = ModelCard.load(REPO)
    assert "Made for the *zoo*." in card.text and "Not measured yet" in card.text
    assert card.data.eval_results is None
    assert (folder / "README.md").read_text() == card.content


def test_text_written_here_is_pushed_and_where_both_wrote_nothing_is_lost(hub, folder):
    push_checkpoint(folder, REPO)
    readme = folder / "README.md"
    readme.write_text(readme.read_text() + "\nHere.\n")
    push_checkpoint(folder, REPO)
    assert "Here." in ModelCard.load(REPO).text
    hub.commit(REPO, {"README.md": ModelCard.load(REPO).content.replace("Here.", "There.").encode()})
    push_checkpoint(folder, REPO)
    assert "There." in ModelCard.load(REPO).text and "Here." not in ModelCard.load(REPO).text
    assert "Here." in (folder / "README.local.md").read_text()
    assert "README.local.md" not in files(hub)


def test_shards_of_an_earlier_push_do_not_stay_beside_a_later_one(hub, tmp_path):
    write(tmp_path / "a", shards=("4KB", 4))
    push_checkpoint(tmp_path / "a", REPO)
    assert {"model.safetensors.index.json", "posterior.safetensors.index.json"} < files(hub)
    BayesianModel.from_pretrained(REPO)
    push_checkpoint(write(tmp_path / "b", tiny_vit(seed=1)), REPO)
    weights = {name for name in files(hub) if "safetensors" in name}
    assert weights == {"model.safetensors", "posterior.safetensors"}
    BayesianModel.from_pretrained(REPO)


def test_an_adapter_keeps_what_peft_says_and_loads_over_its_base(hub, tmp_path):
    tiny_vit().push_to_hub("user/base")
    base = AutoModelForImageClassification.from_pretrained("user/base")
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    folder = write(tmp_path / "adapter", get_peft_model(base, lora))
    push_checkpoint(folder, REPO)
    card = ModelCard.load(REPO)
    assert (card.data.base_model, card.data.library_name) == ("user/base", "peft")
    assert {"lora", "base_model:adapter:user/base", "bayesian", "hf_scorevi"} <= set(card.data.tags)
    assert "[More Information Needed]" not in card.text
    own, pulled = BayesianModel.from_pretrained(folder), BayesianModel.from_pretrained(REPO)
    samples = [m.predict(pixel_values=PIXELS, seed=0).samples for m in (own, pulled)]
    assert torch.equal(*samples)
    PeftModel.from_pretrained(AutoModelForImageClassification.from_pretrained("user/base"), REPO)
    head = hub.repos[REPO].find("main").sha
    pulled.push_to_hub(REPO)
    assert hub.repos[REPO].find("main").sha == head


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST .*lfs/objects/batch", status=500, times=50),
        Fault("PUT /user/tiny/large", drop=True, after_bytes=1000, times=50),
        Fault("POST .*/commit/main", status=503, times=50),
        Fault("POST .*/preupload/", status=429, times=50, headers={"Retry-After": "1"}),
        Fault("POST /api/repos/create", drop=True, times=50),
    ],
    ids=["batch", "upload", "commit", "preupload", "create"],
)
def test_a_push_that_fails_says_how_to_go_on_and_the_next_one_works(hub, folder, fault):
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    hub.faults.append(fault)
    command = re.escape(f"hf-scorevi push {folder} user/tiny")
    with pytest.raises(PushError, match=rf"could not be pushed to user/tiny: (?s:.*){command}"):
        push_checkpoint(folder, REPO)
    assert REPO not in hub.repos or "model.safetensors" not in files(hub)
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
    assert not list(folder.glob(".*.tmp"))
    hub.mend()
    push_checkpoint(folder, REPO)
    BayesianModel.from_pretrained(REPO)


def test_a_hub_that_is_busy_for_a_moment_is_waited_for(hub, folder):
    hub.commit(REPO, {"README.md": "# Tiny\n"})
    hub.faults += [Fault("PUT /user/tiny/large", status=500), Fault("GET .*README.md", status=429)]
    push_checkpoint(folder, REPO)
    assert [fault.times for fault in hub.faults] == [0, 0]
    BayesianModel.from_pretrained(REPO)


def test_a_token_that_is_wrong_is_no_secret_s_end(hub, folder):
    with pytest.raises(PushError, match="401") as caught:
        push_checkpoint(folder, REPO, token="hf_wrongwrongwrong")
    assert "hf_wrong" not in str(caught.value)


def test_a_damaged_checkpoint_is_not_pushed(hub, folder):
    (folder / "posterior.safetensors").write_bytes(b"x")
    with pytest.raises(PosteriorCheckpointError, match="is not the file that was saved"):
        push_checkpoint(folder, REPO)
    assert not hub.requests


def test_figures_are_added_without_the_weights(hub, folder):
    push_checkpoint(folder, REPO)
    weights = hub.repos[REPO].find("main").tree["model.safetensors"]
    new = Evaluation("user/other", 10, 4, 0, {"predictive": {"nll": 0.7}, "mean": {"nll": 0.8}}, split="test")
    cached = BayesianModel.from_pretrained(REPO)
    assert len(cached.evaluations) == 1
    source = write(folder)  # the same weights
    write_evaluations(source, cached.evaluations)
    push_figures(source, new, REPO)
    assert [e.dataset for e in BayesianModel.from_pretrained(REPO).evaluations] == ["user/data", "user/other"]
    assert hub.repos[REPO].find("main").tree["model.safetensors"] is weights
    assert {r.metric_value for r in HfApi().model_info(REPO).card_data.eval_results} == {0.9, 0.3, 0.4, 0.7, 0.8}

    push_checkpoint(write(folder, tiny_vit(seed=1)), REPO)
    with pytest.raises(PushError, match="the weights there have changed"):
        push_figures(write(folder), new, REPO)


def test_the_posterior_s_configuration_has_no_path_of_this_machine(folder):
    assert "/" not in re.sub(r'"[^"]*": "[0-9a-f]{64}"', "", (folder / POSTERIOR_CONFIG_NAME).read_text())


# What a proxy answers, a page to log in to, or a Hub that is broken.
NONSENSE = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "other": b'{"error": null, "files": 7, "objects": {"a": 1}, "url": [], "commitOid": {}, "errors": 3}',
    "page": b"<html>Welcome to the hotel</html>",
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize(
    "pattern",
    [
        "POST /api/repos/create",
        "POST .*/branch/",
        "(HEAD|GET) .*/README.md",
        "GET .*/tree/",
        "POST .*/validate-yaml",
        "POST .*/preupload/",
        "POST .*/objects/batch",
        "PUT .*/large/",
        "POST .*/objects/verify",
        "POST .*/commit/",
    ],
)
def test_an_answer_that_is_no_hub_s_is_a_push_that_failed(hub, nonsense, pattern, body, monkeypatch):
    monkeypatch.setattr("hf_scorevi.hub.card._draw", lambda *_: {})  # which takes longest
    hub.commit(REPO, {"README.md": "# Tiny\n\nMine.\n"})
    answer, met = hub.answer, []

    def other(request, signed):
        found = answer(request, signed)
        if re.search(pattern, f"{request.method} {request.path}"):
            met.append(request.path)
            return Answer(body, 200, {"Content-Type": "application/json"})
        return found

    before = {path.name: path.read_bytes() for path in nonsense.glob("*.safetensors")}
    hub.answer = other
    try:
        push_checkpoint(nonsense, REPO, revision="draft")
    except PushError as error:
        assert f"hf-scorevi push {nonsense} {REPO}" in str(error)
        assert "is not that of a Hub" in str(error) or isinstance(error.__cause__, OSError | ValueError | RuntimeError)
    else:  # of what only confirms, or is not needed
        assert re.search("branch|tree|yaml|large|verify|README", pattern)
    assert met
    hub.answer = answer
    assert {path.name: path.read_bytes() for path in nonsense.glob("*.safetensors")} == before
    push_checkpoint(nonsense, REPO, revision="draft")
    BayesianModel.from_pretrained(REPO, revision="draft")


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory):
    """A checkpoint of this module's, since none of these pushes changes more than its card."""
    return write(tmp_path_factory.mktemp("nonsense") / "own")


@pytest.mark.parametrize("body", [b"{}", b"null", b"<html>"])
@pytest.mark.parametrize(
    "pattern", ["GET /api/models/user/tiny(/revision/main)?$", "POST .*/preupload/", "POST .*/commit/"]
)
def test_figures_that_meet_nonsense_are_a_push_that_failed(hub, folder, pattern, body):
    push_checkpoint(folder, REPO)
    answer = hub.answer
    hub.answer = lambda request, signed: (
        Answer(body) if re.search(pattern, f"{request.method} {request.path}") else answer(request, signed)
    )
    new = Evaluation("user/other", 10, 4, 0, {"predictive": {"nll": 0.7}, "mean": {"nll": 0.8}}, split="test")
    with pytest.raises(PushError, match="The figures could not be added to user/tiny: "):
        push_figures(folder, new, REPO)
