import json
import shutil

import pytest
import torch
from transformers import EarlyStoppingCallback

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, ScoreVITrainer
from hf_scorevi.hub import POSTERIOR_CONFIG_NAME
from hf_scorevi.training import saving
from hf_scorevi.training.checkpoint_folders import STATE_NAME
from hf_scorevi.training.resuming import require_state
from tests.forecasters import tiny_koopa, trained
from tests.tiny_models import arguments, images, tiny_vit


def trainer(folder, config=None, data=None, model=None, **kwargs) -> ScoreVITrainer:
    settings = dict(save_strategy="steps", save_steps=2, max_steps=6, curvature_interval=2)
    settings |= dict(per_device_train_batch_size=6, learning_rate=0.01)
    return ScoreVITrainer(
        model or tiny_vit(hidden_dropout_prob=0.1),
        arguments(folder, **(settings | kwargs)),
        train_dataset=data or images(),
        eval_dataset=images(12, seed=1),
        posterior_config=PosteriorConfig(**({"init_std": 0.05} | (config or {}))),
    )


def everything(t: ScoreVITrainer) -> dict[str, torch.Tensor]:
    values = {f"mean.{name}": value.detach().clone() for name, value in t.model.state_dict().items()}
    values |= {f"precision.{name}": value.clone() for name, value in t.posterior.precision.items()}
    return values | {f"state.{name}": value.clone() for name, value in t.update.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def mean_of(folder) -> dict[str, torch.Tensor]:
    return dict(BayesianModel.from_pretrained(folder).model.state_dict())


def steps(folder) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder and the final state of a run of six steps."""
    folder = tmp_path_factory.mktemp("finished")
    t = trainer(folder)
    t.train()
    return folder, everything(t)


# Runs that have ended


@pytest.mark.parametrize("length", [{}, {"max_steps": -1, "num_train_epochs": 2}, {"max_steps": 4}])
def test_a_run_that_has_ended_is_not_trained_on(tmp_path, length):
    """Within an epoch, after whole ones, and one that is asked for fewer steps than it has."""
    first = trainer(tmp_path, **(length if "num_train_epochs" in length else {}))
    first.train()
    again = trainer(tmp_path, model=tiny_vit(seed=9, hidden_dropout_prob=0.1), **length)
    before = steps(tmp_path)
    output = again.train(resume_from_checkpoint=True)
    assert output.global_step == again.state.global_step == first.state.global_step
    assert_same(everything(again), everything(first))
    assert steps(tmp_path) == before
    assert again.evaluate()["eval_nll"] == first.evaluate()["eval_nll"]


def test_a_run_that_has_ended_goes_on_if_it_is_asked_for_more_steps(tmp_path):
    constant = dict(lr_scheduler_type="constant")
    whole = trainer(tmp_path / "whole", **constant, max_steps=8)
    whole.train()
    trainer(tmp_path / "more", **constant).train()
    more = trainer(tmp_path / "more", **constant, max_steps=8, restore_callback_states_from_checkpoint=True)
    more.train(resume_from_checkpoint=True)
    assert more.state.global_step == 8
    assert_same(everything(more), everything(whole))


def test_a_run_that_stopped_early_stays_stopped_if_its_callbacks_come_back(tmp_path):
    best = dict(eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, metric_for_best_model="nll")
    settings = best | dict(greater_is_better=True, learning_rate=0.1, max_steps=20)

    def made(**kwargs):
        t = trainer(tmp_path, **settings, **kwargs)
        t.add_callback(EarlyStoppingCallback(1))
        return t

    first = made()
    first.train()
    assert first.state.global_step < 20
    again = made(restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == first.state.global_step
    assert_same(everything(again), everything(first))


def test_the_noise_of_a_forecaster_is_that_of_the_run_that_had_ended(tmp_path):
    """It is measured at the end, and is no part of the state."""
    first = trained(tiny_koopa(), tmp_path, max_steps=4, save_strategy="steps", save_steps=4)
    again = ScoreVITrainer(
        tiny_koopa(), first.args, train_dataset=first.train_dataset, posterior_config=first.posterior_config
    )
    again.train(resume_from_checkpoint=True)
    assert first.likelihood.measured is not None
    assert again.likelihood.stored() == first.likelihood.stored()


# What may be another, and what not


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"prior_mean": "zero"}, {}, r"prior_mean is 'initial' there, 'zero' here.*PosteriorConfig\(prior_mean='init"),
        ({"prior_std": 0.3}, {}, r"prior_std is 'auto' there, 0\.3 here"),
        ({"temperature": 0.5}, {}, r"temperature is 0\.0\d+ there, 0\.5 here.*PosteriorConfig\(temperature=0\.0"),
        ({"num_data": 99}, {}, r"num_data is 24 there, 99 here; temperature.*PosteriorConfig\(num_data=24"),
        ({"init_std": 0.01}, {}, r"init_std is 0\.05 there, 0\.01 here"),
        ({}, {"objective": "elbo"}, r"objective is 'score' there, 'elbo' here.*ScoreVITrainingArguments\(objective="),
        ({}, {"update": "gradient"}, "update is 'closed_form' there, 'gradient' here"),
        ({}, {"proximal_weight": 3.0}, r"proximal_weight is 2\.0 there, 3\.0 here"),
        ({"prior_std": 1.0}, {"objective": "elbo_stl"}, r"prior_std.*objective.*PosteriorConfig\(.*\) and ScoreVITr"),
        ({"family": "diagonal"}, {}, "is isotropic, this trainer's is diagonal"),
        ({"target": ["classifier"]}, {}, "is over other weights"),
    ],
)
def test_another_inference_is_refused_by_name_and_nothing_is_touched(tmp_path, finished, config, settings, message):
    model = tiny_vit(seed=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    t = trainer(tmp_path, config, model=model, **settings)
    with pytest.raises(PosteriorCheckpointError, match=message):
        t.train(resume_from_checkpoint=str(finished[0] / "checkpoint-2"))
    assert_same(dict(model.state_dict()), before)


def test_other_data_are_refused_and_taken_with_the_number_that_is_named(tmp_path, finished):
    checkpoint = str(finished[0] / "checkpoint-2")
    with pytest.raises(PosteriorCheckpointError, match="num_data is 24 there, 30 here"):
        trainer(tmp_path, data=images(30)).train(resume_from_checkpoint=checkpoint)
    trainer(tmp_path, {"num_data": 24}, data=images(30)).train(resume_from_checkpoint=checkpoint)
    assert json.loads((tmp_path / "checkpoint-6" / POSTERIOR_CONFIG_NAME).read_text())["num_data"] == 24


def test_the_data_are_those_that_the_trainer_has_now(tmp_path, finished):
    """Not those that it was trained on before."""
    t = trainer(tmp_path, max_steps=2)
    t.train()
    t.train_dataset = images(30)
    with pytest.raises(PosteriorCheckpointError, match="num_data is 24 there, 30 here"):
        t.train(resume_from_checkpoint=str(finished[0] / "checkpoint-2"))
    assert t.likelihood.num_data == 24


def test_a_temperature_that_is_given_as_it_was_resolved_is_the_same(tmp_path, finished):
    folder, final = finished
    temperature = json.loads((folder / "checkpoint-2" / POSTERIOR_CONFIG_NAME).read_text())["temperature"]
    t = trainer(tmp_path, {"temperature": temperature, "num_data": 24})
    t.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    assert_same(everything(t), final)


@pytest.mark.parametrize(
    "settings",
    [
        {"per_device_train_batch_size": 4},
        {"gradient_accumulation_steps": 2},
        {"max_steps": 8},
        {"learning_rate": 1e-4, "lr_scheduler_type": "constant"},
        {"curvature_interval": 3, "mc_samples": 2},
        {"logging_strategy": "steps", "logging_steps": 1, "eval_num_samples": 2, "save_steps": 3},
    ],
)
def test_cost_length_and_step_size_may_change(tmp_path, finished, settings):
    t = trainer(tmp_path, **settings)
    t.train(resume_from_checkpoint=str(finished[0] / "checkpoint-2"))
    assert t.state.global_step == settings.get("max_steps", 6)
    saved = BayesianModel.from_pretrained(tmp_path / f"checkpoint-{t.state.global_step}")
    for name, precision in t.posterior.precision.items():
        assert torch.equal(precision, saved.posterior.precision[name])


def warnings_of(monkeypatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(saving.logger, "warning", found.append)
    return found


def test_another_seed_is_told(tmp_path, finished, monkeypatch):
    found = warnings_of(monkeypatch)
    trainer(tmp_path, seed=7).train(resume_from_checkpoint=str(finished[0] / "checkpoint-2"))
    assert len(found) == 1
    assert "seed=42, and is resumed with seed=7" in found[0]


def test_epochs_of_another_batch_size_are_told(tmp_path, finished, monkeypatch):
    found = warnings_of(monkeypatch)
    settings = dict(max_steps=-1, num_train_epochs=2, per_device_train_batch_size=12)
    t = trainer(tmp_path, **settings)
    t.train(resume_from_checkpoint=str(finished[0] / "checkpoint-2"))
    assert len(found) == 1
    assert "6 examples a step, and is resumed with 12" in found[0]
    assert t.state.global_step == 4


def test_a_checkpoint_of_an_earlier_version_is_taken_for_what_it_does_not_tell(tmp_path, finished):
    folder, final = finished
    old = shutil.copytree(folder / "checkpoint-2", tmp_path / "checkpoint-2")
    contents = json.loads((old / POSTERIOR_CONFIG_NAME).read_text())
    posterior = {name: contents["posterior"][name] for name in ("family", "target", "prior_mean", "prior_std")}
    (old / POSTERIOR_CONFIG_NAME).write_text(
        json.dumps(contents | {"posterior": posterior | {"noise_variance": None}, "method": {"objective": "score"}})
    )
    t = trainer(tmp_path)
    t.train(resume_from_checkpoint=True)
    assert_same(everything(t), final)


# What cannot be resumed from


def test_a_checkpoint_without_the_state_of_its_training_is_refused(tmp_path):
    t = trainer(tmp_path, save_only_model=True)
    t.train()
    with pytest.raises(PosteriorCheckpointError, match=f"has no {STATE_NAME}.*save_only_model=True"):
        trainer(tmp_path).train(resume_from_checkpoint=True)
    t.save_model(str(tmp_path / "saved"))
    with pytest.raises(PosteriorCheckpointError, match=r"has no trainer_state\.json.*by save_model"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "saved"))
    with pytest.raises(PosteriorCheckpointError, match="There is no checkpoint"):
        trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-99"))
    with pytest.raises(ValueError, match="No valid checkpoint found in output directory"):
        trainer(tmp_path / "new").train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("remove", "message"), [("optimizer.pt", "stored nowhere"), ("scheduler.pt", "has no scheduler.pt")]
)
def test_an_optimizer_is_never_begun_anew_without_a_word(tmp_path, finished, remove, message):
    shutil.copytree(finished[0] / "checkpoint-2", tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / remove).unlink()
    with pytest.raises(PosteriorCheckpointError, match=message):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_a_damaged_checkpoint_is_refused_before_the_model_is_touched(tmp_path, finished):
    shutil.copytree(finished[0] / "checkpoint-2", tmp_path / "checkpoint-2")
    shutil.copy(finished[0] / "checkpoint-4" / "model.safetensors", tmp_path / "checkpoint-2")
    t = trainer(tmp_path)
    before = {name: value.clone() for name, value in t.model.state_dict().items()}
    with pytest.raises(PosteriorCheckpointError, match="belongs to another mean"):
        t.train(resume_from_checkpoint=True)
    assert_same(dict(t.model.state_dict()), before)


@pytest.mark.parametrize("stored", ["optimizer.pt", "optimizer.bin", "optimizer_0"])
def test_an_optimizer_in_the_form_of_other_processes_is_refused(tmp_path, finished, stored):
    folder = shutil.copytree(finished[0] / "checkpoint-2", tmp_path / "checkpoint-2")
    (folder / "optimizer.pt").rename(folder / stored)
    forms = {
        "optimizer.pt": (None, "without FSDP"),
        "optimizer.bin": ("FULL_STATE_DICT", "under FSDP with FULL_STATE_DICT"),
        "optimizer_0": ("SHARDED_STATE_DICT", "under FSDP with SHARDED_STATE_DICT"),
    }
    for name, (fsdp, words) in forms.items():
        if name == stored:
            require_state(folder, fsdp)
            continue
        with pytest.raises(PosteriorCheckpointError, match=f"was stored {forms[stored][1]}, and this run, {words}"):
            require_state(folder, fsdp)


# Folders that hold checkpoints already


def test_a_second_run_replaces_what_it_reaches_and_keeps_the_rest(tmp_path):
    trainer(tmp_path).train()
    settings = dict(learning_rate=0.1, lr_scheduler_type="constant")
    second = trainer(tmp_path, **settings, max_steps=4)
    second.train()
    assert steps(tmp_path) == [2, 4, 6]
    assert_same(dict(second.model.state_dict()), mean_of(tmp_path / "checkpoint-4"))
    resumed = trainer(tmp_path, **settings)
    resumed.train(resume_from_checkpoint=True)  # from its own fourth step, not from the other's sixth
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    assert_same(everything(resumed), everything(whole))


def test_training_again_with_the_same_trainer_replaces_its_checkpoints(tmp_path):
    t = trainer(tmp_path)
    t.train()
    t.train()
    assert steps(tmp_path) == [2, 4, 6]
    assert_same(dict(t.model.state_dict()), mean_of(tmp_path / "checkpoint-6"))


def test_a_checkpoint_that_is_being_pushed_is_not_replaced_before_that_is_done(tmp_path):
    trainer(tmp_path).train()
    t, files = trainer(tmp_path, learning_rate=0.1), []
    old = (tmp_path / "checkpoint-2" / "model.safetensors").read_bytes()

    class Push:
        def done(self) -> bool:
            return True

        def exception(self) -> None:
            files.append((tmp_path / "checkpoint-2" / "model.safetensors").read_bytes())

    t._pushes[str(tmp_path / "checkpoint-2")] = Push()
    t.train()
    assert files[0] == old
    assert (tmp_path / "checkpoint-2" / "model.safetensors").read_bytes() != old


@pytest.mark.parametrize("limit", [None, 2])
def test_resuming_from_an_earlier_checkpoint_replaces_the_later_ones(tmp_path, finished, limit):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    t = trainer(tmp_path, save_total_limit=limit)
    t.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(everything(t), finished[1])
    assert steps(tmp_path) == ([2, 4, 6] if limit is None else [4, 6])


BEST = dict(
    eval_strategy="steps",
    eval_steps=2,
    load_best_model_at_end=True,
    metric_for_best_model="nll",
    greater_is_better=True,  # the worst, so that it is not the last
)


def test_the_best_is_this_runs_and_not_one_of_that_name_of_an_earlier_run(tmp_path, monkeypatch):
    found = warnings_of(monkeypatch)
    trainer(tmp_path, learning_rate=0.1).train()
    t = trainer(tmp_path, **BEST | {"save_steps": 4, "max_steps": 8})  # evaluates step 2, and does not save it
    t.train()
    assert t.state.best_global_step == 2
    assert t.state.best_model_checkpoint is None
    assert len(found) == 1
    assert "No checkpoint of step 2, the best of this run" in found[0]
    assert_same(dict(t.model.state_dict()), mean_of(tmp_path / "checkpoint-8"))


def test_the_best_comes_back_after_the_folder_has_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer("out", **BEST).train()
    best = mean_of(tmp_path / "out" / "checkpoint-2")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    t = trainer(tmp_path / "moved", **BEST | {"max_steps": 8, "save_total_limit": 2})
    t.train(resume_from_checkpoint=True)
    assert t.state.best_model_checkpoint == str(tmp_path / "moved" / "checkpoint-2")
    assert_same(dict(t.model.state_dict()), best)
    assert steps(tmp_path / "moved") == [2, 8]


def test_a_best_that_another_run_has_replaced_is_told_and_not_loaded(tmp_path, monkeypatch):
    found = warnings_of(monkeypatch)
    trainer(tmp_path / "other", learning_rate=0.1).train()
    t = trainer(tmp_path, **BEST)
    finalize = t._finalize_training

    def replaced(*args):
        shutil.rmtree(tmp_path / "checkpoint-2")
        shutil.copytree(tmp_path / "other" / "checkpoint-2", tmp_path / "checkpoint-2")
        return finalize(*args)

    monkeypatch.setattr(t, "_finalize_training", replaced)
    t.train()
    assert len(found) == 1
    assert "checkpoint-2, the best of this run, was replaced or deleted by another" in found[0]
    assert_same(dict(t.model.state_dict()), mean_of(tmp_path / "checkpoint-6"))


def test_only_the_best_is_kept_and_it_survives_the_end(tmp_path):
    t = trainer(tmp_path, **BEST | {"save_total_limit": 1})
    t.train()
    assert steps(tmp_path) == [2]
    assert_same(dict(t.model.state_dict()), mean_of(tmp_path / "checkpoint-2"))
