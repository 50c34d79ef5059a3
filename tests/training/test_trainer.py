import copy
import re
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_scorevi import NonFiniteLossError, PosteriorConfig, ScoreVITrainer
from tests.tiny_models import Examples, arguments, images, tiny_resnet, tiny_vit


def trained(folder, model=None, config=None, **kwargs) -> ScoreVITrainer:
    trainer = ScoreVITrainer(
        model or tiny_vit(), arguments(folder, **kwargs), train_dataset=images(), posterior_config=config
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("family", "make_model", "mc_samples"),
    [
        *(
            (family, model, n)
            for family in ("isotropic", "diagonal")
            for model in (tiny_vit, tiny_resnet)
            for n in (1, 2)
        ),
        *((family, tiny_vit, 1) for family in ("block_diagonal", "low_rank", "full")),
    ],
)
def test_gradient_accumulation_is_exact(tmp_path, family, make_model, mc_samples):
    """k micro-batches of b give what one batch of k·b gives; for ResNet too, which ignores num_items_in_batch."""
    results = []
    for micro_batch, steps in ((12, 1), (6, 2), (3, 4)):
        model = make_model(seed=1).eval()
        freeze_batch_norm(model)
        trainer = trained(
            tmp_path,
            model,
            PosteriorConfig(family=family, init_std=0.05),
            max_steps=4,
            curvature_interval=2,
            mc_samples=mc_samples,
            share_noise=True,
            optim="sgd",
            learning_rate=0.05,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=steps,
        )
        start = make_model(seed=1)
        assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))
        precisions = torch.cat([p.flatten() for p in trainer.posterior.precision.values()])
        results.append((torch.cat([p.detach().flatten() for p in model.parameters()]), precisions))
    initial = ScoreVITrainer(
        make_model(seed=1),
        arguments(tmp_path),
        train_dataset=images(),
        posterior_config=PosteriorConfig(family=family, init_std=0.05),
    )
    moved = torch.cat([p.flatten() for p in initial.posterior.precision.values()]) / results[0][1] - 1
    assert moved.abs().max() > 1e-2
    for mean, precision in results[1:]:
        assert torch.allclose(mean, results[0][0], atol=1e-6, rtol=0)
        assert torch.allclose(precision, results[0][1], rtol=1e-5, atol=0)


def freeze_batch_norm(model: nn.Module) -> None:
    """Batch statistics do depend on how a batch is split: keep them out of the comparison."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
            module.training = False


def multiplied(factor, outputs, labels, num_items_in_batch):
    return factor * nn.functional.cross_entropy(outputs["logits"], labels)


def test_a_wrong_likelihood_scale_would_be_seen(tmp_path):
    """The comparison above can fail: a sum over the accumulated batches makes the gradient four times too large."""
    norms = []
    for batches in (1, 4):
        trainer = ScoreVITrainer(
            tiny_resnet(),
            arguments(tmp_path, max_steps=1, max_grad_norm=0, per_device_train_batch_size=6, optim="sgd",
                      gradient_accumulation_steps=4, learning_rate=0.0, share_noise=True, logging_strategy="steps",
                      logging_steps=1, loss_is_likelihood=True),
            train_dataset=images(),
            compute_loss_func=partial(multiplied, batches),
        )  # fmt: skip
        trainer.train()
        norms.append(trainer.state.log_history[0]["grad_norm"])
    assert norms[1] / norms[0] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "adafactor"])
def test_any_optimizer_and_schedule_move_the_mean(tmp_path, optim):
    trainer = trained(tmp_path, optim=optim, lr_scheduler_type="cosine", warmup_steps=1, max_steps=3)
    start = tiny_vit()
    moved = [not torch.equal(p, q) for p, q in zip(trainer.model.parameters(), start.parameters(), strict=True)]
    assert all(moved)


def test_a_tied_weight_is_one_weight(tmp_path):
    """It is drawn and moved once; both its names see the same values."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight
            self.seen: list[tuple] = []

        def forward(self, x, labels):
            self.seen.append((self.first.weight.detach().clone(), self.second.weight.detach().clone()))
            logits = self.second(torch.tanh(self.first(x)))
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    torch.manual_seed(0)
    model, data = Tied(), Examples(x=torch.randn(16, 4), labels=torch.arange(16) % 4)
    trainer = ScoreVITrainer(
        model,
        arguments(tmp_path, max_steps=2, curvature_interval=1),
        train_dataset=data,
        posterior_config=PosteriorConfig(target=["first", "second"], init_std=0.1),
    )
    before = model.first.weight.detach().clone()
    trainer.train()
    assert trainer.posterior.names == ["first.weight"] and trainer.posterior.num_weights == 16
    assert all(torch.equal(a, b) for a, b in model.seen)
    noise = (model.seen[0][0] - before) / (0.1 * before.square().mean().sqrt())
    assert 0.5 < noise.std() < 1.5  # once the noise, not twice
    assert model.second.weight is model.first.weight


def test_clipping_clips_the_mean_gradient(tmp_path):
    kwargs = dict(optim="sgd", learning_rate=1.0, max_steps=1)
    start = torch.cat([p.detach().flatten() for p in tiny_vit().parameters()])
    shifts = []
    for bound in (1e-3, 1e9):
        model = trained(tmp_path, max_grad_norm=bound, **kwargs).model
        shifts.append((torch.cat([p.detach().flatten() for p in model.parameters()]) - start).norm().item())
    assert shifts[0] == pytest.approx(1e-3, rel=1e-2)
    assert shifts[1] > 0.1


def test_the_global_random_state_is_an_ordinary_trainers(tmp_path):
    """Dropout and data order are what they would be without us, through curvature steps and several samples."""
    states = []
    for cls, args in (
        (Trainer, TrainingArguments),
        (ScoreVITrainer, None),
    ):
        settings = dict(num_train_epochs=3, curvature_interval=2, mc_samples=2)
        arguments_ = arguments(tmp_path, **settings)
        if args is not None:
            same = ("output_dir", "use_cpu", "num_train_epochs", "per_device_train_batch_size", "seed")
            arguments_ = args(
                **{name: getattr(arguments_, name) for name in same},
                report_to="none",
                disable_tqdm=True,
                save_strategy="no",
                dataloader_pin_memory=False,
            )
        model = tiny_vit(hidden_dropout_prob=0.1)
        cls(model, arguments_, train_dataset=images()).train()
        states.append((torch.get_rng_state(), np.random.get_state()[1]))
    assert torch.equal(states[0][0], states[1][0])
    assert np.array_equal(states[0][1], states[1][1])


def test_both_passes_of_a_pair_see_the_same_dropout(tmp_path):
    """With next to no noise and the same masks, both losses of a pair are equal; the third would differ."""
    losses = []

    class Recording(ScoreVITrainer):
        def _pass(self, *args, **kwargs):
            losses.append(super()._pass(*args, **kwargs))
            return losses[-1]

    model = tiny_vit(hidden_dropout_prob=0.3)
    Recording(
        model,
        arguments(tmp_path, max_steps=2, curvature_interval=2, per_device_train_batch_size=24, learning_rate=0.0),
        train_dataset=images(),
        posterior_config=PosteriorConfig(init_std=1e-7),
    ).train()
    plus, minus, ordinary = (loss.item() for loss in losses)
    assert plus == pytest.approx(minus, abs=1e-5)
    assert abs(plus - ordinary) > 1e-4


def test_an_exception_in_the_forward_pass_leaves_the_mean(tmp_path):
    model = tiny_vit()
    trainer = ScoreVITrainer(model, arguments(tmp_path), train_dataset=images())
    before = copy.deepcopy(model.state_dict())
    calls = []

    def failing(module, args, kwargs):
        calls.append(not torch.equal(module.classifier.weight, before["classifier.weight"]))
        raise RuntimeError("simulated out of memory")

    model.register_forward_pre_hook(failing, with_kwargs=True)
    with pytest.raises(RuntimeError, match="simulated out of memory"):
        trainer.train()
    assert calls == [True]  # it was perturbed when the forward pass failed
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_weights_do_not_move(tmp_path):
    model = tiny_vit()
    model.vit.embeddings.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    trained(tmp_path, model, num_train_epochs=2)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in frozen)
    assert not torch.equal(model.classifier.weight, before["classifier.weight"])


def test_deterministic_weights_train_without_noise(tmp_path):
    """With a posterior on the head alone, the body trains as ever and is never perturbed."""
    model = tiny_vit()
    seen = []
    model.register_forward_pre_hook(lambda m, a: seen.append(m.vit.layers[0].mlp.fc1.weight.detach().clone()))
    before = model.vit.layers[0].mlp.fc1.weight.detach().clone()
    trainer = trained(tmp_path, model, PosteriorConfig(target=["classifier"]), max_steps=2)
    assert trainer.posterior.names == ["classifier.weight", "classifier.bias"]
    assert torch.equal(seen[0], before)
    assert not torch.equal(model.vit.layers[0].mlp.fc1.weight, before)


def test_a_nan_loss_stops_with_the_weights_of_the_last_good_step(tmp_path):
    model = tiny_vit()
    data = images(16)
    trainer = ScoreVITrainer(
        model, arguments(tmp_path, max_steps=5, save_strategy="steps", save_steps=1), train_dataset=data
    )
    steps = []

    def poison(module, args, kwargs):
        steps.append({name: value.clone() for name, value in module.state_dict().items()})
        if trainer.state.global_step == 3:
            kwargs["pixel_values"] = kwargs["pixel_values"] * float("nan")
        return args, kwargs

    model.register_forward_pre_hook(poison, with_kwargs=True)
    with pytest.raises(NonFiniteLossError, match="training loss is nan at step 3"):
        trainer.train()
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    saved = type(model).from_pretrained(tmp_path / "checkpoint-3").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


def test_a_nan_gradient_of_a_finite_loss_stops_before_the_step(tmp_path):
    model = tiny_vit()
    trainer = ScoreVITrainer(model, arguments(tmp_path, max_steps=5), train_dataset=images())
    good = []

    def poison(gradient):
        if trainer.state.global_step < 3:
            return gradient
        return gradient * float("nan")

    model.classifier.weight.register_hook(poison)
    trainer.add_callback(_AtStep(3, lambda: good.append([p.detach().clone() for p in model.parameters()])))
    with pytest.raises(NonFiniteLossError, match="norm of the gradient is nan at step 3"):
        trainer.train()
    assert all(torch.equal(p, g) for p, g in zip(model.parameters(), good[0], strict=True))


class _AtStep(TrainerCallback):
    """Calls a function at the beginning of one step, before any draw."""

    def __init__(self, step, function):
        self.step, self.function = step, function

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.function()


def test_weight_decay_spares_bayesian_weights_and_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_scorevi.training.renewing.logger.warning_once", said.append)
    trainer = ScoreVITrainer(
        tiny_vit(),
        arguments(tmp_path, weight_decay=0.1, max_steps=1),
        train_dataset=images(),
        posterior_config=PosteriorConfig(target=["classifier"]),
    )
    decayed = trainer.get_decay_parameter_names(trainer.model)
    assert len(said) == 1 and said[0].startswith("weight_decay=0.1 is not applied to the Bayesian weights")
    assert "vit.layers.0.mlp.fc1.weight" in decayed
    assert "classifier.weight" not in decayed


def test_batch_norm_counts_a_batch_once(tmp_path):
    model = tiny_resnet()
    trained(tmp_path, model, max_steps=4, curvature_interval=2, mc_samples=2, batch_norm_batches=0)
    counts = {m.num_batches_tracked.item() for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    momenta = {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert counts == {4}
    assert momenta == {0.1}


def test_logs_tell_a_healthy_run(tmp_path):
    trainer = trained(tmp_path, max_steps=25, curvature_interval=5, logging_strategy="steps", logging_steps=25)
    logs = trainer.state.log_history[0]
    assert logs["expected_nll"] == logs["loss"]
    assert logs["kl"] > 0
    assert logs["negative_elbo"] > logs["expected_nll"]
    assert 0 < logs["std_relative_mean"] < 10
    assert logs["std_relative_spread"] >= 0
    assert logs["shrinkage_weight"] == 0
    assert 0 <= logs["share_at_prior"] <= 1


def test_a_new_head_is_centred_at_zero_and_loaded_weights_at_themselves(tmp_path):
    tiny_vit().base_model.save_pretrained(tmp_path / "body")
    model = type(tiny_vit()).from_pretrained(tmp_path / "body", num_labels=3)
    trainer = ScoreVITrainer(model, arguments(tmp_path), train_dataset=images())
    centre = dict(zip(trainer.posterior.names, trainer.prior.mean, strict=True))
    assert centre["classifier.weight"].shape == ()
    assert centre["classifier.weight"].item() == 0
    assert torch.equal(centre["vit.layers.0.mlp.fc1.weight"], model.vit.layers[0].mlp.fc1.weight)


def test_a_new_head_under_an_adapter_is_centred_at_zero_and_the_adapter_at_its_start(tmp_path):
    tiny_vit().base_model.save_pretrained(tmp_path / "body")
    model = type(tiny_vit()).from_pretrained(tmp_path / "body", num_labels=3)
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    trainer = ScoreVITrainer(get_peft_model(model, lora), arguments(tmp_path), train_dataset=images())
    centre = dict(zip(trainer.posterior.names, trainer.prior.mean, strict=True))
    assert centre["base_model.model.classifier.modules_to_save.default.weight"].shape == ()
    adapter = {name: mean for name, mean in centre.items() if "lora_" in name}
    params = dict(zip(trainer.posterior.names, trainer.posterior.params, strict=True))
    assert len(adapter) == 4
    assert all(torch.equal(mean, params[name]) for name, mean in adapter.items())


def test_a_model_from_scratch_is_centred_at_its_initial_weights(tmp_path):
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path), train_dataset=images())
    centre = dict(zip(trainer.posterior.names, trainer.prior.mean, strict=True))
    assert torch.equal(centre["classifier.weight"], trainer.model.classifier.weight)


def test_half_precision_weights_are_upcast_with_a_word(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_scorevi.training.refusals.logger.warning", said.append)
    model = tiny_vit().to(torch.bfloat16)
    trainer = trained(tmp_path, model, max_steps=1)
    assert len(said) == 1 and said[0].startswith("Bayesian weights in bfloat16 are converted to float32")
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_model_init_gets_a_fresh_posterior(tmp_path):
    trainer = ScoreVITrainer(
        args=arguments(tmp_path, max_steps=1), train_dataset=images(), model_init=lambda: tiny_vit()
    )
    trainer.train()
    assert trainer.posterior.params[0] is next(iter(trainer.model.parameters()))


def test_arguments_of_the_wrong_class_are_named(tmp_path):
    with pytest.raises(TypeError, match="args must be ScoreVITrainingArguments, not TrainingArguments"):
        ScoreVITrainer(tiny_vit(), TrainingArguments(str(tmp_path), use_cpu=True), train_dataset=images())


class Lose(TrainerCallback):
    """Leaves a weight at infinity after a step, as a learning rate beyond all measure does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                model.classifier.weight[0, 0] = float("inf")


@pytest.mark.parametrize("steps", [1, 4])
def test_a_mean_that_is_infinite_is_called_lost_and_not_saved(tmp_path, steps):
    """By the next step, or at the end, where there is none."""
    trainer = ScoreVITrainer(
        tiny_vit(), arguments(tmp_path, max_steps=steps), train_dataset=images(), callbacks=[Lose(1)]
    )
    with pytest.raises(NonFiniteLossError, match=r"\(classifier.weight\).*this model is lost.*Lower learning_rate"):
        trainer.train()
    assert trainer.state.global_step == 1
    with pytest.raises(NonFiniteLossError, match="this model is lost, and is not saved"):
        trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_a_mean_that_is_infinite_is_found_when_it_is_logged(tmp_path):
    kwargs = dict(max_steps=3, logging_strategy="steps", logging_steps=1, save_strategy="steps", save_steps=1)
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path, **kwargs), train_dataset=images(), callbacks=[Lose(2)])
    with pytest.raises(NonFiniteLossError, match=r"At step 2 weights are NaN or infinite \(classifier.weight\)"):
        trainer.train()
    assert [p.name for p in tmp_path.glob("*checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_leaves_a_mean_that_is_good(tmp_path, bad):
    data = images()
    data.columns["pixel_values"][:] = bad
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path), train_dataset=data)
    with pytest.raises(NonFiniteLossError, match=r"holds the mean as the last step left it.*in pixel_values that are"):
        trainer.train()
    trainer.save_model()


def test_the_example_of_the_docstring_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", textwrap.dedent(ScoreVITrainer.__doc__), re.DOTALL)
    exec(compile(block, "ScoreVITrainer", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "torch.Size([32, 2])"
