import shutil

import pytest
import torch

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, ScoreVITrainer
from hf_scorevi.training.checkpointing import STATE_NAME
from tests.tiny_models import arguments, images, tiny_resnet, tiny_vit


def trainer(folder, model=None, config=None, **kwargs) -> ScoreVITrainer:
    settings = dict(
        save_strategy="steps", save_steps=3, max_steps=8, curvature_interval=2, per_device_eval_batch_size=64
    )
    return ScoreVITrainer(
        model or tiny_vit(hidden_dropout_prob=0.1),
        arguments(folder, **(settings | kwargs)),
        train_dataset=images(),
        eval_dataset=images(seed=1),
        posterior_config=config or PosteriorConfig(init_std=0.05),
    )


def everything(t: ScoreVITrainer) -> dict[str, torch.Tensor]:
    values = {f"mean.{name}": value.detach().clone() for name, value in t.model.state_dict().items()}
    values |= {f"precision.{name}": value.clone() for name, value in t.posterior.precision.items()}
    return values | {f"state.{name}": value.clone() for name, value in t.update.state_dict().items()}


def dropout_vit(**kwargs):
    return tiny_vit(hidden_dropout_prob=0.1, **kwargs)


@pytest.mark.parametrize(
    ("family", "make_model"),
    [
        *((family, model) for family in ("isotropic", "diagonal") for model in (dropout_vit, tiny_resnet)),
        *((family, dropout_vit) for family in ("block_diagonal", "low_rank", "full")),
    ],
)
def test_resume_is_bit_exact(tmp_path, family, make_model):
    config = PosteriorConfig(family=family, init_std=0.05)
    whole = trainer(tmp_path / "whole", make_model(), config)
    whole.train()
    # a fresh process would build its model anew, here even from another seed
    resumed = trainer(tmp_path / "resumed", make_model(seed=9), config)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    a, b = everything(whole), everything(resumed)
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


@pytest.mark.parametrize("objective", ["elbo", "elbo_stl"])
def test_the_elbo_baselines_resume_exactly(tmp_path, objective):
    whole = trainer(tmp_path / "whole", objective=objective)
    whole.train()
    resumed = trainer(tmp_path / "resumed", tiny_vit(seed=9, hidden_dropout_prob=0.1), objective=objective)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    a, b = everything(whole), everything(resumed)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_best_model_brings_back_mean_and_posterior_of_the_same_step(tmp_path):
    t = trainer(
        tmp_path,
        max_steps=9,
        eval_strategy="steps",
        eval_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="nll",
        greater_is_better=True,  # the worst, so that it is not the last
        learning_rate=1e-2,
    )
    t.train()
    best = t.state.best_model_checkpoint
    assert best.endswith("checkpoint-3")
    stored = BayesianModel.from_pretrained(best)
    for name, value in t.model.state_dict().items():
        assert torch.equal(value, stored.model.state_dict()[name])
    for name, value in t.posterior.precision.items():
        assert torch.equal(value, stored.posterior.precision[name])
    last = BayesianModel.from_pretrained(tmp_path / "checkpoint-9")
    assert any(not torch.equal(value, last.posterior.precision[name]) for name, value in t.posterior.precision.items())


def test_save_model_writes_what_predicts_the_same(tmp_path):
    t = trainer(tmp_path)
    t.train()
    metrics = t.predict(images(seed=1))
    t.save_model(str(tmp_path / "final"))
    model = BayesianModel.from_pretrained(tmp_path / "final")
    out = model.predict(
        pixel_values=images(seed=1).columns["pixel_values"], num_samples=t.args.eval_num_samples, seed=t.args.seed
    )
    assert torch.allclose(torch.tensor(metrics.predictions).exp(), out.probs, atol=1e-6)


def test_a_saved_run_can_be_evaluated_by_a_new_trainer(tmp_path):
    t = trainer(tmp_path, config=PosteriorConfig(target=["classifier"], init_std=0.5))
    t.train()
    t.save_model(str(tmp_path / "final"))
    other = trainer(tmp_path / "other", tiny_vit(seed=5))
    other.load_model(tmp_path / "final")
    assert other.posterior_config.target == ["classifier"]
    figures = [x.evaluate() for x in (t, other)]
    assert figures[0]["eval_nll"] == figures[1]["eval_nll"]
    other.save_model(str(tmp_path / "again"))
    assert BayesianModel.from_pretrained(tmp_path / "again").posterior_config.target == ["classifier"]


def test_a_damaged_state_stops_resuming_with_a_way_out(tmp_path):
    t = trainer(tmp_path)
    t.train()
    state = tmp_path / "checkpoint-3" / STATE_NAME
    state.write_bytes(state.read_bytes()[:50])
    with pytest.raises(PosteriorCheckpointError, match=f"{STATE_NAME} cannot be read.*Resume from an earlier"):
        trainer(tmp_path / "again").train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PosteriorConfig(target=["classifier"]), "is over other weights than this trainer's"),
        (PosteriorConfig(family="diagonal"), "is isotropic, this trainer's is diagonal"),
        (PosteriorConfig(family="low_rank", rank=2), "is isotropic, this trainer's is low_rank"),
    ],
)
def test_resuming_with_another_posterior_is_refused(tmp_path, config, message):
    trainer(tmp_path).train()
    with pytest.raises(PosteriorCheckpointError, match=message):
        trainer(tmp_path / "again", config=config).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_resuming_with_another_rank_is_refused(tmp_path):
    trainer(tmp_path, config=PosteriorConfig(family="low_rank", rank=2)).train()
    with pytest.raises(PosteriorCheckpointError, match=r"has another rank.*PosteriorConfig\(rank="):
        trainer(tmp_path / "again", config=PosteriorConfig(family="low_rank", rank=3)).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-3")
        )


def test_a_half_written_checkpoint_is_refused(tmp_path):
    """The mean of one step with the posterior of another: what a crash between the two would leave."""
    t = trainer(tmp_path, max_steps=6)
    t.train()
    shutil.copy(tmp_path / "checkpoint-6" / "model.safetensors", tmp_path / "checkpoint-3" / "model.safetensors")
    with pytest.raises(PosteriorCheckpointError, match=r"belongs to another mean: model\.safetensors differ"):
        BayesianModel.from_pretrained(tmp_path / "checkpoint-3")


def test_a_checkpoint_of_the_model_alone_says_that_it_is_one(tmp_path):
    trainer(tmp_path, save_only_model=True, save_strategy="steps", save_steps=2).train()
    resumed = trainer(tmp_path / "resumed")
    with pytest.raises(PosteriorCheckpointError, match=r"save_only_model=True.*trainer\.load_model") as caught:
        resumed.train(resume_from_checkpoint=str(next(tmp_path.glob("checkpoint-*"))))
    assert "save the checkpoint again" not in str(caught.value)
