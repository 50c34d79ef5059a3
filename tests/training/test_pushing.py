import json
import re
import time

import pytest
import torch
from datasets import Dataset, load_dataset
from huggingface_hub import HfApi, ModelCard, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoModelForImageClassification

from hf_scorevi import BayesianModel, PosteriorConfig, PushError, ScoreVITrainer
from hf_scorevi.hub import network, read_evaluations
from hf_scorevi.training import pushing
from tests.hub_server import Fault, HubServer, online, run_client
from tests.hub_server.server import Answer
from tests.tiny_models import arguments, images, tiny_vit

REPO = "user/tiny"
PIXELS = images(9, seed=3).columns["pixel_values"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


def trainer(folder, **kwargs):
    settings = {"push_to_hub": True, "hub_model_id": REPO, "num_train_epochs": 2, "learning_rate": 1e-2}
    settings |= {"save_strategy": "epoch", "eval_strategy": "epoch", "hub_always_push": True}
    data = {"train_dataset": images(), "eval_dataset": images(9, seed=3)}
    config = PosteriorConfig(target=["classifier"])  # few tensors for the picture on each card
    return ScoreVITrainer(tiny_vit(), arguments(folder, **(settings | kwargs)), posterior_config=config, **data)


def commits(hub):
    return [(commit.title, commit.commit_id) for commit in HfApi().list_repo_commits(REPO)][:-1]


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_every_commit_of_every_strategy_is_a_whole_posterior(hub, tmp_path, strategy):
    run = trainer(tmp_path / "out", hub_strategy=strategy)
    run.train()
    run.push_to_hub(dataset="Noise")
    titles = [title for title, _ in commits(hub)]
    within = [] if strategy == "end" else ["Training in progress, epoch 2", "Training in progress, epoch 1"]
    assert sorted(titles) == sorted(["End of training", *within])
    for title, commit in commits(hub):
        model = BayesianModel.from_pretrained(REPO, revision=commit)
        assert model.stored.method["steps"] == (3 if title.endswith("epoch 1") else 6)
        assert len(model.evaluations) == 1
    expected = torch.tensor(run.predict(images(9, seed=3)).predictions).exp()
    seed = run.args.seed
    pulled = BayesianModel.from_pretrained(REPO).predict(pixel_values=PIXELS, num_samples=4, seed=seed)
    assert torch.allclose(pulled.probs, expected, atol=1e-6)
    folders = {"checkpoint": {"last-checkpoint"}, "all_checkpoints": {"checkpoint-3", "checkpoint-6"}}
    names = hub.repos[REPO].find("main").tree
    assert {name.split("/")[0] for name in names if "checkpoint" in name} == folders.get(strategy, set())


def test_the_card_has_the_figures_that_evaluate_gave(hub, tmp_path):
    run = trainer(tmp_path / "out", hub_strategy="end", eval_num_samples=6)
    run.train()
    metrics = run.evaluate()
    run.push_to_hub(dataset="Noise", license="mit", tags="vision")
    results = HfApi().model_info(REPO).card_data.eval_results
    found = {(r.metric_args["weights"], r.metric_type): r.metric_value for r in results}
    for name in ("accuracy", "nll", "ece", "classwise_ece", "adaptive_ece", "brier"):
        assert found["predictive", name] == metrics[f"eval_{name}"]
        assert found["mean", name] == metrics[f"eval_mean_{name}"]
    assert {r.dataset_name for r in results} == {"Noise"}
    (evaluation,) = read_evaluations(tmp_path / "out")
    assert [row["num_samples"] for row in evaluation.by_num_samples] == [1, 2, 4, 6]
    assert evaluation.by_num_samples[-1]["nll"] == pytest.approx(metrics["eval_nll"], abs=1e-6)
    card = ModelCard.load(REPO)
    assert card.data.license == "mit" and {"vision", "bayesian"} <= set(card.data.tags)
    assert f"{metrics['eval_nll']:.4f}" in card.text


def test_the_same_push_twice_makes_one_commit(hub, tmp_path):
    run = trainer(tmp_path / "out", hub_strategy="end")
    run.train()
    assert run.push_to_hub().oid == run.push_to_hub().oid


def test_figures_of_other_weights_are_not_saved(hub, tmp_path):
    run = trainer(tmp_path / "out", push_to_hub=False, eval_strategy="no", save_strategy="no")
    run.evaluate()
    run.save_model()
    assert len(read_evaluations(tmp_path / "out")) == 1
    run.train()
    run.save_model()
    assert not (tmp_path / "out" / "calibration.json").exists()


def test_a_pulled_checkpoint_resumes_bit_for_bit(hub, tmp_path):
    trainer(tmp_path / "out", hub_strategy="checkpoint", lr_scheduler_type="constant").train()
    folder = snapshot_download(REPO) + "/last-checkpoint"
    longer = {"push_to_hub": False, "num_train_epochs": 3, "lr_scheduler_type": "constant"}
    resumed, straight = trainer(tmp_path / "resumed", **longer), trainer(tmp_path / "straight", **longer)
    resumed.train(resume_from_checkpoint=folder)
    straight.train()
    for p, q in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(p, q)
    for name, precision in resumed.posterior.precision.items():
        assert torch.equal(precision, straight.posterior.precision[name])


def test_a_hub_that_dies_within_training_costs_a_warning_and_nothing_else(hub, tmp_path, caplog):
    run = trainer(tmp_path / "out")
    hub.faults.append(Fault("", drop=True, times=10_000))
    run.train()
    run.save_model()
    assert run.state.global_step == 6
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert re.search(r"checkpoint-\d+ could not be pushed to user/tiny: ", text)
    assert f"hf-scorevi push {tmp_path / 'out'} user/tiny" in text
    assert BayesianModel.from_pretrained(tmp_path / "out").stored.method["steps"] == 6
    BayesianModel.from_pretrained(tmp_path / "out" / "checkpoint-6")
    with pytest.raises(PushError, match="The checkpoint is complete on disk"):
        run.push_to_hub()
    hub.mend()
    run.push_to_hub()
    BayesianModel.from_pretrained(REPO)


def test_a_hub_that_is_down_when_training_starts_is_tried_again(hub, tmp_path, caplog):
    hub.faults.append(Fault("POST /api/repos/create", drop=True, times=1))
    run = trainer(tmp_path / "out", hub_strategy="end")
    assert "The Hub cannot be reached now" in caplog.text
    run.train()
    run.push_to_hub()
    BayesianModel.from_pretrained(REPO)


def test_a_token_without_the_right_is_an_error_before_training(hub, tmp_path):
    with pytest.raises(HfHubHTTPError, match="401"):
        trainer(tmp_path / "out", hub_token="hf_wrongwrongwrong")


def test_the_token_is_in_no_file_and_on_no_card(hub, tmp_path):
    run = trainer(tmp_path / "out", hub_token=hub.token, hub_strategy="all_checkpoints")
    run.train()
    run.push_to_hub()
    assert run.args.hub_token == hub.token
    secret = hub.token.encode()
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.name == "training_args.bin" for path in written)
    assert not [path for path in written if secret in path.read_bytes()]
    assert not [name for name, blob in hub.repos[REPO].find("main").tree.items() if secret in blob.data]


def test_a_checkpoint_that_is_being_pushed_is_not_rotated_away(hub, tmp_path, monkeypatch):
    """The upload is slow: it ends after the next checkpoint was saved."""
    run = trainer(tmp_path / "out", num_train_epochs=3, save_total_limit=1, hub_always_push=False)
    slow, push = [], pushing.push_checkpoint

    def late(folder, *args, **kwargs):
        slow.append(folder)
        while not (tmp_path / "out" / "checkpoint-9").exists():
            pass
        return push(folder, *args, **kwargs)

    monkeypatch.setattr(pushing, "push_checkpoint", late)
    run.train()
    assert [folder.name for folder in slow] == ["checkpoint-3"]
    assert BayesianModel.from_pretrained(REPO).stored.method["steps"] == 3


def test_what_is_told_of_the_run_is_its_settings_and_names_of_the_hub(hub, tmp_path):
    tiny_vit().push_to_hub("user/base")
    rows = Dataset.from_dict({k: v.tolist() for k, v in images(9).columns.items()})
    rows.push_to_hub("user/rows")
    data = load_dataset("user/rows", split="train").with_format("torch")
    run = ScoreVITrainer(
        AutoModelForImageClassification.from_pretrained("user/base"),
        arguments(tmp_path / "out", max_steps=2, hub_model_id=REPO),
        train_dataset=data,
        eval_dataset=data,
    )
    run.train()
    run.evaluate()
    run.push_to_hub()
    contents = json.loads((tmp_path / "out" / "posterior_config.json").read_text())
    assert contents["training"]["base_model"] == "user/base"
    assert contents["training"]["dataset"] == "user/rows"
    assert contents["training"]["learning_rate"] == 1e-3
    card = ModelCard.load(REPO)
    assert (card.data.base_model, card.data.datasets) == ("user/base", ["user/rows"])
    assert {(r.dataset_type, r.dataset_split) for r in card.data.eval_results} == {("user/rows", "train")}
    assert str(tmp_path) not in card.content


def answers(hub, pattern, body=None, seconds=0):
    """Where that matches, let something else than the Hub answer, or the Hub do what it is asked and be silent."""
    answer = hub.answer

    def other(request, signed):
        if re.search(pattern, f"{request.method} {request.path}") is None:
            return answer(request, signed)
        if body is not None:
            return Answer(body, 200, {"Content-Type": "application/json"})
        found = answer(request, signed)
        time.sleep(seconds)
        return found

    hub.answer = other


def test_a_hub_that_takes_a_commit_and_never_answers_costs_a_warning(hub, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(network, "SILENCE", 1.0)
    answer = hub.answer
    answers(hub, "POST .*/commit/", seconds=120)
    run = trainer(tmp_path / "out", num_train_epochs=5, save_strategy="steps", save_steps=3, eval_strategy="no")
    start = time.monotonic()
    run.train()
    run.save_model()
    assert time.monotonic() - start < 60
    assert run.state.global_step == 15
    text = "\n".join(record.getMessage() for record in caplog.records)
    for number in (3, 6, 9, 12, 15):
        folder = tmp_path / "out" / f"checkpoint-{number}"
        assert f"{folder} could not be pushed to user/tiny: The Hub has " in text
        assert f"hf-scorevi push {folder} user/tiny" in text
    assert "The Hub has not answered for 1 seconds; what it was sent may have arrived all the same." in text
    assert (
        "The Hub has just left another push without an answer." in text
    )  # those that waited do not wait as long again
    assert f"hf-scorevi push {tmp_path / 'out'} user/tiny" in text
    for folder in (tmp_path / "out", tmp_path / "out" / "checkpoint-15"):
        assert BayesianModel.from_pretrained(folder).stored.method["steps"] == 15
    hub.answer = answer
    run.push_to_hub()
    assert BayesianModel.from_pretrained(REPO).stored.method["steps"] == 15


def test_a_process_ends_though_a_push_in_the_background_is_never_answered(hub, tmp_path):
    asked, answer = tmp_path / "asked", hub.answer

    def silent(request, signed):
        if request.method == "POST" and "/commit/" in request.path:
            asked.touch()
            time.sleep(300)
        return answer(request, signed)

    hub.answer = silent
    code = f"""
        import time
        from pathlib import Path
        from hf_scorevi.hub import network
        from tests.training.test_pushing import trainer
        network.SILENCE = 1.0
        run = trainer("out", hub_strategy="every_save", max_steps=3, eval_strategy="no")
        run._finish_current_push = lambda: None
        run.train()
        while not Path({str(asked)!r}).exists():
            time.sleep(0.01)
        print("trained")
    """
    assert "trained" in run_client(hub, code)


@pytest.mark.parametrize("body", [b"null", b'{"files": 7}', b"<html>Log in</html>"])
@pytest.mark.parametrize("pattern", ["POST /api/repos/create", "POST .*/commit/"])
def test_a_hub_that_answers_nonsense_costs_a_warning(hub, tmp_path, caplog, pattern, body):
    answer = hub.answer
    answers(hub, pattern, body)
    run = trainer(tmp_path / "out", max_steps=1, hub_strategy="end", save_strategy="no", eval_strategy="no")
    run.train()
    run.save_model()
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert f"hf-scorevi push {tmp_path / 'out'} user/tiny" in text
    assert ("The Hub cannot be reached now: The answer is not that of a Hub" in text) == ("create" in pattern)
    assert BayesianModel.from_pretrained(tmp_path / "out").stored.method["steps"] == 1
    with pytest.raises(PushError, match=r"could not be pushed to user/tiny: (?s:.*)hf-scorevi push"):
        run.push_to_hub()
    hub.answer = answer
    run.push_to_hub()
    assert BayesianModel.from_pretrained(REPO).stored.method["steps"] == 1


def test_what_is_said_by_name_replaces_our_own_guess_and_people_s_later_words_stay(hub, tmp_path):
    run = trainer(tmp_path / "out", max_steps=1, hub_strategy="end", save_strategy="no", eval_strategy="no")
    run.train()
    run.evaluate()
    run.push_to_hub(license="mit")
    assert (ModelCard.load(REPO).data.pipeline_tag, ModelCard.load(REPO).data.license) == (
        "image-classification",
        "mit",
    )
    run.create_model_card(tasks="image-feature-extraction", license="apache-2.0")
    own = ModelCard.load(tmp_path / "out" / "README.md")
    assert (own.data.pipeline_tag, own.data.license) == ("image-feature-extraction", "apache-2.0")
    run.push_to_hub()
    pushed = ModelCard.load(REPO)
    assert (pushed.data.pipeline_tag, pushed.data.license) == ("image-feature-extraction", "apache-2.0")
    assert {result.task_type for result in pushed.data.eval_results} == {"image-feature-extraction"}
    hub.commit(REPO, {"README.md": pushed.content.replace("license: apache-2.0", "license: gpl-3.0")})
    run.push_to_hub()
    last = ModelCard.load(REPO)
    assert (last.data.pipeline_tag, last.data.license) == ("image-feature-extraction", "gpl-3.0")
    assert {result.task_type for result in last.data.eval_results} == {"image-feature-extraction"}
