"""While a draw stands in the weights of a model in training, or a twin has it, nothing takes it for the mean."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from tests.interrupts import interrupted
from tests.tiny_models import arguments, images, tiny_resnet, tiny_vit

WIDE = PosteriorConfig(init_std=0.3)


def weights_of(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Means(TrainerCallback):
    """The mean before and after each step of the optimizer."""

    def __init__(self, model):
        self.model, self.found = model, [weights_of(model)]

    def on_optimizer_step(self, *args, **kwargs):
        self.found.append(weights_of(self.model))


def test_what_a_loss_reads_is_the_mean_or_refused(tmp_path):
    model, found = tiny_vit(), {}

    def loss(outputs, labels, num_items_in_batch=None):
        if model.training and not found:
            mean = weights_of(model) if not trainer.posterior.drawn else trainer.posterior.mean
            state = model.state_dict()
            found["state"] = equal([state[name] for name in trainer.posterior.names], mean)
            found["live"] = equal(weights_of(model), mean)
            model.save_pretrained(tmp_path / "state")
            for name, act in {
                "save_model": lambda: trainer.save_model(str(tmp_path / "saved")),
                "deepcopy": lambda: copy.deepcopy(model),
                "pickle": lambda: pickle.dumps(model),
            }.items():
                with pytest.raises(RuntimeError, match=r"are a draw of the posterior at the moment.*between steps"):
                    act()
                found[name] = True
            found["mean"] = [m.clone() for m in mean]
        return nn.functional.cross_entropy(outputs.logits, labels)

    args = arguments(tmp_path, max_steps=2)
    trainer = ScoreVITrainer(model, args, train_dataset=images(), posterior_config=WIDE, compute_loss_func=loss)
    trainer.train()
    assert found["state"] and not found["live"]
    saved = type(model).from_pretrained(tmp_path / "state")
    assert equal(weights_of(saved), found["mean"])
    assert equal(weights_of(copy.deepcopy(model)), weights_of(model))  # and not for longer
    trainer.save_model(str(tmp_path / "saved"))
    assert equal(weights_of(BayesianModel.from_pretrained(tmp_path / "saved").model), weights_of(model))


def test_tied_weights_are_the_mean_too():
    from hf_scorevi.posterior import Posterior
    from hf_scorevi.training.standing import Weights

    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    posterior = Posterior.initialise(dict(model.named_parameters()), WIDE)
    before = copy.deepcopy(model.state_dict())
    with Weights().drawn(model, posterior, 0):
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not torch.equal(model[1].weight, before["1.weight"])


def test_another_thread_saves_means(tmp_path):
    model = tiny_vit()
    trainer = ScoreVITrainer(
        model, arguments(tmp_path, max_steps=25, learning_rate=0.0), train_dataset=images(), posterior_config=WIDE
    )
    mean, done, number = weights_of(model), threading.Event(), 0  # which a learning rate of zero does not move

    def save():
        nonlocal number
        while not done.is_set():
            trainer.save_model(str(tmp_path / f"saved-{number}"))
            number += 1

    thread = threading.Thread(target=save)
    trainer.add_callback(_At("on_train_begin", thread.start))
    try:
        trainer.train()
    finally:
        done.set()
        thread.join()
    assert number > 0
    for i in range(number):
        assert equal(weights_of(type(model).from_pretrained(tmp_path / f"saved-{i}")), mean)


class _At(TrainerCallback):
    def __init__(self, event, act):
        setattr(self, event, lambda *args, **kwargs: act())


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
def test_an_evaluation_leaves_the_model_alone(tmp_path, build):
    """In the eyes of a callback, of another thread, and of a pass of its own."""
    model, seen = build(), []
    config = PosteriorConfig(init_std=0.3)
    trainer = ScoreVITrainer(
        model,
        arguments(tmp_path, max_steps=2, batch_norm_per_draw=True),
        train_dataset=images(),
        posterior_config=config,
    )
    trainer.train()
    trainer._refresh()
    state = copy.deepcopy(model.state_dict())

    def look(*args, **kwargs):
        seen.append(all(torch.equal(value, state[name]) for name, value in trainer.model.state_dict().items()))

    model.register_forward_hook(look)
    trainer.add_callback(_At("on_prediction_step", look))
    trainer.evaluate(images(16, seed=5))
    assert len(seen) > 8 and all(seen)


def test_calling_another_model_than_the_given_is_refused(tmp_path):
    class Own(ScoreVITrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            return super().compute_loss(self.model, inputs, *args, **kwargs)

    trainer = Own(tiny_vit(), arguments(tmp_path), train_dataset=images())
    with pytest.raises(RuntimeError, match=r"self\.model, a ViTForImageClassification, was called"):
        trainer.evaluate(images(8))
    assert not trainer.model._forward_pre_hooks


@pytest.mark.parametrize("within", ["standing", "posterior/posterior", "training/trainer"])
def test_an_interrupt_of_training_leaves_the_mean_of_a_step(tmp_path, within):
    at = 1
    while True:
        model = tiny_vit(num_hidden_layers=1)
        trainer = ScoreVITrainer(
            model, arguments(tmp_path, max_steps=1), train_dataset=images(8), posterior_config=WIDE
        )
        trainer.callback_handler.callbacks.insert(0, means := Means(model))
        if not interrupted(trainer.train, at, within):
            break
        assert any(equal(weights_of(model), mean) for mean in means.found)
        assert not trainer.posterior.drawn
        assert equal(weights_of(copy.deepcopy(model)), weights_of(model))
        at += 1 + at // 3
    assert at > 50


def test_an_interrupt_in_a_pass_leaves_the_mean(tmp_path):
    """As Ctrl-C does it, in the middle of a forward pass of training or evaluation; the trainer goes on."""
    model = tiny_resnet()
    trainer = ScoreVITrainer(model, arguments(tmp_path, max_steps=3), train_dataset=images(), posterior_config=WIDE)
    stop = []

    def interrupt(*args):
        if stop:
            stop.pop()
            raise KeyboardInterrupt

    model.register_forward_hook(interrupt)
    before, stop[:] = weights_of(model), [True]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert equal(weights_of(model), before)
    trainer.train()
    before, state, stop[:] = weights_of(model), copy.deepcopy(model.state_dict()), [True]
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate(images(8))
    assert equal(weights_of(model), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert trainer.evaluate(images(8))["eval_nll"] > 0
