import pytest
import torch
from torch import nn

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.batch_norm import (
    RunningStatistics,
    frozen_running_statistics,
    has_running_statistics,
    kept_running_statistics,
    refresh_running_statistics,
)
from hf_scorevi.training.training_data import spread_batches
from tests.tiny_models import arguments, images, tiny_resnet, tiny_vit


class Normalising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(self.dropout(x))


def test_refreshed_statistics_are_those_of_the_batches():
    """Averages over batches of mean and unbiased variance, dropout off; modes and momentum as before."""
    model, generator = Normalising(), torch.Generator().manual_seed(0)
    batches = [torch.randn(16, 2, generator=generator) * 3 + 1 for _ in range(4)]
    refresh_running_statistics(model, [{"x": x} for x in batches])
    assert torch.allclose(model.norm.running_mean, torch.stack([x.mean(0) for x in batches]).mean(0), atol=1e-6)
    assert torch.allclose(model.norm.running_var, torch.stack([x.var(0) for x in batches]).mean(0), rtol=1e-5)
    assert (model.training, model.dropout.training, model.norm.training, model.norm.momentum) == (True,) * 3 + (0.1,)


@pytest.mark.parametrize("batches", [[], [{"x": torch.ones(4, 2)}, {"x": torch.ones(4, 3)}]])
def test_a_failed_refresh_leaves_the_old_statistics(batches):
    model = Normalising().eval()
    model.norm.running_mean.fill_(7.0)
    with pytest.raises((ValueError, RuntimeError)):
        refresh_running_statistics(model, batches)
    assert (model.norm.running_mean == 7).all()
    assert not model.norm.training and model.norm.momentum == 0.1


def test_layers_kept_in_evaluation_mode_are_left_alone():
    model = Normalising()
    model.norm.train = lambda mode=True: model.norm
    model.norm.training = False
    model.norm.running_mean.fill_(7.0)
    refresh_running_statistics(model, [{"x": torch.randn(4, 2)}])
    assert (model.norm.running_mean == 7).all()


def test_frozen_and_kept_statistics():
    model = Normalising()
    before = RunningStatistics(model)
    with frozen_running_statistics(model):
        model(torch.randn(4, 2))
    assert model.norm.num_batches_tracked == 0 and (model.norm.running_mean == 0).all()
    with kept_running_statistics(model):
        model(torch.randn(4, 2))
        assert model.norm.num_batches_tracked == 1
    assert model.norm.num_batches_tracked == 0 and (model.norm.running_mean == 0).all()
    model(torch.randn(4, 2))
    before.restore()
    assert (model.norm.running_mean == 0).all()
    assert has_running_statistics(model) and not has_running_statistics(tiny_vit())


def trained(folder, **kwargs) -> ScoreVITrainer:
    trainer = ScoreVITrainer(
        tiny_resnet(),
        arguments(folder, **dict(max_steps=4, curvature_interval=2, learning_rate=0.01) | kwargs),
        train_dataset=images(48),
        eval_dataset=images(24, seed=5),
        posterior_config=PosteriorConfig(init_std=0.3),
    )
    trainer.train()
    return trainer


def under_the_mean(trainer: ScoreVITrainer) -> RunningStatistics:
    """Gathered by hand from all training data, under the weights that are in place."""
    pixels = trainer.train_dataset.columns["pixel_values"]
    with kept_running_statistics(trainer.model):
        refresh_running_statistics(trainer.model, [{"pixel_values": part} for part in pixels.split(8)])
        return RunningStatistics(trainer.model)


def distance(model, other: RunningStatistics) -> float:
    pairs = zip(RunningStatistics(model)._values, other._values, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs if a.dim())


def test_training_ends_with_the_statistics_of_the_mean_and_they_are_saved(tmp_path):
    trainer, left_alone = trained(tmp_path), trained(tmp_path / "other", batch_norm_batches=0)
    assert distance(trainer.model, under_the_mean(trainer)) < 1e-6
    assert distance(left_alone.model, under_the_mean(left_alone)) > 0.1
    trainer.save_model()
    loaded = BayesianModel.from_pretrained(tmp_path)
    assert distance(loaded.model, RunningStatistics(trainer.model)) == 0


def test_a_checkpoint_within_training_has_the_statistics_of_its_own_mean(tmp_path):
    trained(tmp_path, save_strategy="steps", save_steps=2)
    half = ScoreVITrainer(tiny_resnet(), arguments(tmp_path / "half"), train_dataset=images(48))
    half.load_model(tmp_path / "checkpoint-2")
    assert distance(half.model, under_the_mean(half)) < 1e-6


def test_resume_is_bit_exact_with_running_statistics(tmp_path):
    whole = trained(tmp_path, save_strategy="steps", save_steps=2)
    again = ScoreVITrainer(
        tiny_resnet(seed=9),
        arguments(tmp_path / "again", max_steps=4, curvature_interval=2, learning_rate=0.01),
        train_dataset=images(48),
        posterior_config=PosteriorConfig(init_std=0.3),
    )
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.model.state_dict().items())


def test_each_draw_predicts_with_its_own_statistics(tmp_path):
    """Trainer and `BayesianModel` alike, and the mean's are back afterwards."""
    trainer = trained(tmp_path)
    trainer.save_model()
    before = RunningStatistics(trainer.model)
    shared = trainer.predict(trainer.eval_dataset).predictions
    trainer.args.batch_norm_per_draw = True
    own = trainer.predict(trainer.eval_dataset).predictions
    assert distance(trainer.model, before) == 0
    assert abs(own - shared).max() > 1e-3
    model = BayesianModel.from_pretrained(tmp_path)
    columns = trainer.train_dataset.columns
    batches = [{"pixel_values": columns["pixel_values"][i : i + 8]} for i in range(0, 48, 8)]
    out = model.predict(
        pixel_values=trainer.eval_dataset.columns["pixel_values"], num_samples=4, seed=trainer.args.seed,
        batch_norm_batches=batches,
    )  # fmt: skip
    assert torch.allclose(out.probs.log(), torch.as_tensor(own), atol=1e-4)
    assert distance(model.model, before) == 0


def test_batches_are_spread_over_the_data_and_leave_no_trace():
    class Augmented(list):
        def __getitem__(self, i):
            return {"i": torch.tensor(i), "noise": torch.rand(())}

    data, state = Augmented(range(101)), torch.get_rng_state()
    first, second = ([b for b in spread_batches(data, collate, 5, 4)] for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(torch.stack([b["noise"] for b in first]), torch.stack([b["noise"] for b in second]))
    assert torch.cat([b["i"] for b in first]).tolist() == list(range(0, 100, 5))
    assert [len(b["i"]) for b in spread_batches(Augmented(range(3)), collate, 5, 4)] == [3]
    assert [len(b["i"]) for b in spread_batches(Augmented(range(6)), collate, 5, 4)] == [5]


def collate(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
