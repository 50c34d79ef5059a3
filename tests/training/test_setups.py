"""How a step is computed must not change what it gives: each set-up against the plain one."""

from functools import partial

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.posterior import FAMILIES
from tests.tiny_models import arguments, images, tiny_resnet, tiny_vit


def make_trainer(folder, data=None, model=None, **kwargs) -> ScoreVITrainer:
    settings = dict(
        max_steps=4,
        curvature_interval=2,
        optim="sgd",
        learning_rate=0.05,
        per_device_train_batch_size=6,
        gradient_accumulation_steps=2,
        mc_samples=2,
        max_grad_norm=0.0,  # Accelerate takes the scale out of gradients before clipping only where it made the scaler
    )
    return ScoreVITrainer(
        model or tiny_vit(seed=1, hidden_dropout_prob=0.1),
        arguments(folder, **settings | kwargs),
        train_dataset=data or images(48),
        posterior_config=PosteriorConfig(family="diagonal", init_std=0.05),
    )


def result(trainer: ScoreVITrainer) -> tuple[torch.Tensor, torch.Tensor]:
    mean = torch.cat([p.detach().flatten() for p in trainer.posterior.params])
    return mean, torch.cat([p.flatten() for p in trainer.posterior.precision.values()])


def assert_same(trainer: ScoreVITrainer, reference: ScoreVITrainer) -> None:
    (mean, precision), (other_mean, other_precision) = result(trainer), result(reference)
    assert torch.allclose(mean, other_mean, rtol=0, atol=1e-6)
    assert torch.allclose(precision, other_precision, rtol=1e-5, atol=0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> ScoreVITrainer:
    trainer = make_trainer(tmp_path_factory.mktemp("plain"))
    start = result(trainer)
    trainer.train()
    moved = result(trainer)
    assert (moved[0] - start[0]).abs().max() > 1e-3  # what is compared below has moved
    assert (moved[1] / start[1] - 1).abs().max() > 1e-2
    return trainer


def test_activation_checkpointing(tmp_path, plain):
    trainer = make_trainer(tmp_path, activation_checkpointing=True)
    trainer.train()
    assert_same(trainer, plain)


class Perceptron(nn.Module):
    """Few kernels, since each takes a compiler a second."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 3))

    def forward(self, pixel_values, labels=None):
        logits = self.layers(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@pytest.mark.parametrize(
    ("make", "backend"),
    [(partial(tiny_vit, seed=1), "aot_eager"), pytest.param(Perceptron, "inductor", marks=pytest.mark.slow)],
)
def test_torch_compile(tmp_path, make, backend):
    """Without dropout, whose masks a compiled graph draws in another order."""
    trainers = []
    for compiled in (False, True):
        trainer = make_trainer(
            tmp_path, model=make(), torch_compile=compiled, torch_compile_backend=backend if compiled else None
        )
        trainer.train()
        trainers.append(trainer)
    assert isinstance(trainers[1].model_wrapped, torch._dynamo.OptimizedModule)
    assert_same(*trainers)


@pytest.mark.parametrize("scale", [2.0**-3, 4096.0])
def test_a_gradient_scaler(tmp_path, plain, scale):
    trainer = make_trainer(tmp_path)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.train()
    assert_same(trainer, plain)


def test_an_overflowed_step_is_no_step(tmp_path):
    """A skipped curvature step moves neither mean nor precision nor averages: as if its gradients were withheld."""
    overflowing = make_trainer(tmp_path, lr_scheduler_type="constant")  # a skipped step does not move a schedule
    overflowing.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, backoff_factor=2.0**-120)
    overflowing.train()
    assert overflowing.update.average.steps == 1  # of the curvature steps 0 and 2

    withheld = make_trainer(tmp_path, lr_scheduler_type="constant")
    withheld.add_callback(Withhold(withheld))
    withheld.train()
    assert_same(overflowing, withheld)


class Withhold(TrainerCallback):
    """Drops the first step's gradients and statistic."""

    def __init__(self, trainer: ScoreVITrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            model.zero_grad()
            self.trainer._window.statistic = None


def test_a_loss_that_overflows_is_the_scalers_business_until_it_gives_up(tmp_path):
    from hf_scorevi import NonFiniteLossError

    data = images(48)
    data.columns["pixel_values"][0] = float("nan")
    trainer = make_trainer(tmp_path, data, max_steps=30, num_train_epochs=30, train_sampling_strategy="sequential",
                           per_device_train_batch_size=24)  # fmt: skip
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    start = result(trainer)
    with pytest.raises(NonFiniteLossError, match="training loss is nan"):
        trainer.train()
    assert 2 <= trainer.state.global_step <= 4  # scales 4, 2 and 1 were tried
    assert all(torch.equal(a, b) for a, b in zip(result(trainer), start, strict=True))


def test_a_batch_size_found_after_running_out_of_memory(tmp_path):
    """The failed attempt leaves nothing behind: what follows is a run with the size that was found."""

    def run(batch_size: int, memory: int, **kwargs) -> ScoreVITrainer:
        trainer = make_trainer(tmp_path, gradient_accumulation_steps=1, train_sampling_strategy="sequential",
                               per_device_train_batch_size=batch_size, **kwargs)  # fmt: skip
        without_dropout(trainer)  # the failed attempt took its random numbers

        def forward_pre_hook(module, args, kwargs):
            if len(kwargs["pixel_values"]) > memory:
                failures.append(not torch.equal(trainer.posterior.params[0], start))
                raise RuntimeError("CUDA out of memory.")

        start = trainer.posterior.params[0].detach().clone()
        trainer.model.register_forward_pre_hook(forward_pre_hook, with_kwargs=True)
        trainer.train()
        return trainer

    failures: list[bool] = []
    found, direct = run(8, 7, auto_find_batch_size=True), run(7, 7)
    assert failures == [True]  # with perturbed weights
    assert all(torch.equal(a, b) for a, b in zip(result(found), result(direct), strict=True))


def without_dropout(trainer: ScoreVITrainer) -> None:
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


@pytest.mark.parametrize(
    ("family", "objective"),
    [*((family, "score") for family in sorted(FAMILIES)), ("diagonal", "elbo"), ("diagonal", "elbo_stl")],
)
def test_channels_last(tmp_path, family, objective):
    """The usual advice for convolutions, with a dense matrix in a layout of its own beside them: same numbers."""
    found = []
    for layout in ("contiguous", "channels_last"):
        model = tiny_resnet(seed=1)
        if layout == "channels_last":
            model = model.to(memory_format=torch.channels_last)
            linear = model.classifier[1]
            linear.weight = torch.nn.Parameter(linear.weight.detach().T.contiguous().T)
            assert not linear.weight.is_contiguous()
            assert not model.resnet.encoder.stages[1].layers[0].layer[0].convolution.weight.is_contiguous()
        trainer = ScoreVITrainer(
            model,
            arguments(tmp_path / layout, max_steps=4, curvature_interval=2, objective=objective, optim="sgd",
                      learning_rate=0.05, save_strategy="steps", save_steps=2),
            train_dataset=images(48),
            eval_dataset=images(24, seed=1),
            posterior_config=PosteriorConfig(family=family, init_std=0.05, rank=2),
        )  # fmt: skip
        start = result(trainer)
        trainer.train()
        straight = result(trainer)
        assert all((a - b).abs().max() > 1e-3 for a, b in zip(straight, start, strict=True))
        trainer.args.save_strategy = "no"
        trainer.train(resume_from_checkpoint=str(tmp_path / layout / "checkpoint-2"))
        assert all(torch.equal(a, b) for a, b in zip(result(trainer), straight, strict=True))
        trainer.save_model(str(tmp_path / layout))
        loaded = BayesianModel.from_pretrained(tmp_path / layout)
        probs = loaded.predict(pixel_values=images(6).columns["pixel_values"], num_samples=4, seed=0).probs
        metrics = trainer.evaluate()
        found.append((*straight, probs, torch.tensor(metrics["eval_nll"])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
