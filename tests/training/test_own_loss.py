"""Losses of the user's own: how they are scaled, and what is known of them."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ViTForImageClassification

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from tests.heads import make_head
from tests.tiny_models import Examples, arguments, images, tiny_vit


def mean(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs["logits"], labels)


def summed(outputs, labels, num_items_in_batch):
    """As transformers' own: with the number of the whole accumulated batch it would be divided already."""
    return F.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


def either(outputs, labels, num_items_in_batch=None):
    if num_items_in_batch is None:
        return mean(outputs, labels)
    return summed(outputs, labels, num_items_in_batch)


class Mean(ScoreVITrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


class Summed(ScoreVITrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels, reduction="sum") / (num_items_in_batch or len(labels))
        return (loss, outputs) if return_outputs else loss


OWN = [
    (ScoreVITrainer, {}),
    (ScoreVITrainer, {"compute_loss_func": mean}),
    (ScoreVITrainer, {"compute_loss_func": summed}),
    (ScoreVITrainer, {"compute_loss_func": either}),
    (Mean, {}),
    (Summed, {}),
]


def posterior_of(folder, cls=ScoreVITrainer, batch=12, steps=1, **kwargs):
    model = tiny_vit(seed=1)
    args = arguments(folder, max_steps=4, curvature_interval=2, share_noise=True, optim="sgd", learning_rate=0.05,
                     per_device_train_batch_size=batch, gradient_accumulation_steps=steps)  # fmt: skip
    config = PosteriorConfig(family="diagonal", init_std=0.05)
    trainer = cls(model, args, train_dataset=images(), posterior_config=config, **kwargs)
    trainer.train()
    assert trainer.likelihood.num_data == 24
    values = [*model.parameters(), *trainer.posterior.precision.values()]
    return torch.cat([value.detach().flatten() for value in values])


@pytest.mark.parametrize(("cls", "kwargs"), OWN)
def test_accumulated_batches_weigh_as_one(tmp_path, cls, kwargs):
    """Whoever divides by what: the posterior is that of the model's own cross-entropy on the whole batch."""
    whole = posterior_of(tmp_path)
    for batch, steps in ((12, 1), (3, 4)):
        found = posterior_of(tmp_path, cls, batch, steps, **kwargs)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def focal(outputs, labels, num_items_in_batch=None):
    nll = F.cross_entropy(outputs["logits"], labels, reduction="none")
    return ((1 - torch.exp(-nll)) ** 2 * nll).mean()


def weighted(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs["logits"], labels, weight=torch.tensor([1.0, 1.0, 5.0]))


def smoothed(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs["logits"], labels, label_smoothing=0.2)


def doubled(outputs, labels, num_items_in_batch=None):
    return 2 * F.cross_entropy(outputs["logits"], labels)


@pytest.mark.parametrize("loss", [focal, weighted, smoothed, doubled])
def test_what_is_no_likelihood_is_refused_unless_declared(tmp_path, loss):
    args = arguments(tmp_path, max_steps=6, learning_rate=1e-2)
    model = tiny_vit()
    trainer = ScoreVITrainer(model, args, train_dataset=images(), compute_loss_func=loss)
    with pytest.raises(ValueError, match=r"compute_loss_func gives is not the cross-entropy.*loss_is_likelihood=True"):
        trainer.train()
    assert all(p.isfinite().all() for p in model.parameters())

    args = arguments(tmp_path, max_steps=6, loss_is_likelihood=True)
    trainer = ScoreVITrainer(tiny_vit(), args, train_dataset=images(), compute_loss_func=loss)
    trainer.train()
    assert trainer.state.global_step == 6


def test_a_weight_of_a_rare_class_is_found_when_the_class_comes(tmp_path):
    data = images(48)
    data.columns["labels"][:] = torch.arange(48) % 2
    data.columns["labels"][44:] = 2
    args = arguments(tmp_path, num_train_epochs=1, train_sampling_strategy="sequential")
    trainer = ScoreVITrainer(tiny_vit(), args, train_dataset=data, compute_loss_func=weighted)
    with pytest.raises(ValueError, match="not the cross-entropy"):
        trainer.train()
    assert trainer.state.global_step == 5


def test_a_subclass_with_class_weights(tmp_path):
    class Weighted(ScoreVITrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = weighted(outputs, labels)
            return (loss, outputs) if return_outputs else loss

    trainer = Weighted(tiny_vit(), arguments(tmp_path), train_dataset=images())
    with pytest.raises(ValueError, match=r"Weighted\.compute_loss gives is not the cross-entropy"):
        trainer.train()


def test_a_loss_function_put_into_the_model(tmp_path):
    model = tiny_vit()
    model.loss_function = lambda labels, logits, config, **kwargs: smoothed({"logits": logits}, labels)
    trainer = ScoreVITrainer(model, arguments(tmp_path), train_dataset=images())
    with pytest.raises(ValueError, match=r"loss_function of ViTForImageClassification gives is not the cross-entropy"):
        trainer.train()


class Net(nn.Module):
    def __init__(self, loss, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.loss = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs)), loss

    def forward(self, pixel_values, labels):
        logits = self.body(pixel_values)
        return {"loss": self.loss({"logits": logits}, labels), "logits": logits}


def test_a_module_of_the_users_own(tmp_path):
    for loss in (focal, weighted):
        with pytest.raises(ValueError, match="Net gives is not the cross-entropy"):
            ScoreVITrainer(Net(loss), arguments(tmp_path), train_dataset=images()).train()
    trainer = ScoreVITrainer(Net(mean), arguments(tmp_path), train_dataset=images())
    trainer.train()
    assert trainer.likelihood.num_data == 24


def test_a_squared_error_needs_a_noise_variance(tmp_path):
    data = images()
    data.columns["labels"] = torch.randn(24, 1)

    def squared(outputs, labels):
        return F.mse_loss(outputs["logits"], labels)

    with pytest.raises(ValueError, match=r"mean squared error of its outputs.*noise_variance='model'"):
        ScoreVITrainer(Net(squared, 1), arguments(tmp_path), train_dataset=data).train()
    config = PosteriorConfig(noise_variance="model")
    trainer = ScoreVITrainer(Net(squared, 1), arguments(tmp_path), train_dataset=data, posterior_config=config)
    trainer.train()
    assert trainer.likelihood.kind == "gaussian"

    def robust(outputs, labels, num_items_in_batch=None):
        return F.huber_loss(outputs["logits"], labels)

    with pytest.raises(ValueError, match="compute_loss_func gives is not the mean squared error"):
        ScoreVITrainer(
            tiny_vit(num_labels=1), arguments(tmp_path), train_dataset=data, compute_loss_func=robust
        ).train()


def test_several_labels_an_example_are_several_terms(tmp_path):
    data = images()
    data.columns["labels"] = (torch.rand(24, 3, generator=torch.Generator().manual_seed(0)) < 0.5).float()

    def binary(outputs, labels, num_items_in_batch=None):
        return F.binary_cross_entropy_with_logits(outputs["logits"], labels)

    with pytest.raises(ValueError, match=r"mean over 3 labels an example.*problem_type='multi_label_classification'"):
        ScoreVITrainer(tiny_vit(), arguments(tmp_path), train_dataset=data, compute_loss_func=binary).train()
    model = tiny_vit(problem_type="multi_label_classification")
    trainer = ScoreVITrainer(model, arguments(tmp_path), train_dataset=data, compute_loss_func=binary)
    trainer.train()
    assert trainer.likelihood.num_data == 72


def test_what_cannot_be_compared(tmp_path, monkeypatch):
    """Of a function given to the trainer it is refused; a module of the user's own is believed, with a word."""
    said = []
    monkeypatch.setattr("hf_scorevi.training.own_loss.logger.warning", said.append)

    class Silent(Net):
        def forward(self, pixel_values, labels=None):
            loss = 0.0 if labels is None else F.cross_entropy(self.body(pixel_values), labels)
            return {"loss": loss, "hidden": self.body(pixel_values)}

    def of_hidden(outputs, labels, num_items_in_batch=None):
        return outputs["hidden"].mean() + outputs["loss"]

    ScoreVITrainer(Silent(mean), arguments(tmp_path), train_dataset=images()).train()
    assert len(said) == 1 and said[0].startswith("The loss of Silent is taken to be the mean of a negative")
    trainer = ScoreVITrainer(Silent(mean), arguments(tmp_path), train_dataset=images(), compute_loss_func=of_hidden)
    with pytest.raises(ValueError, match="What likelihood the loss stands for that compute_loss_func gives"):
        trainer.train()


def test_a_loss_scaled_by_the_user_is_refused(tmp_path):
    class Scaled(Mean):
        loss_is_scaled_for_ga = True

    with pytest.raises(ValueError, match="loss_is_scaled_for_ga=True does not go with ScoreVITrainer"):
        Scaled(tiny_vit(), arguments(tmp_path), train_dataset=images()).train()


def test_a_declared_loss_of_a_regression_head_has_no_noise_to_learn(tmp_path):
    """A Poisson likelihood, say, of one output."""
    data = Examples(pixel_values=torch.randn(24, 1, 8, 8), labels=torch.arange(24.0) % 5)

    def poisson(outputs, labels, num_items_in_batch=None):
        return F.poisson_nll_loss(outputs["logits"][:, 0], labels)

    args = arguments(tmp_path, loss_is_likelihood=True)
    trainer = ScoreVITrainer(tiny_vit(num_labels=1), args, train_dataset=data, compute_loss_func=poisson)
    trainer.train()
    assert (trainer.likelihood.kind, trainer.likelihood.num_data) == ("nll", 24)


def test_a_loss_of_transformers_that_has_other_terms_is_refused(tmp_path, monkeypatch):
    forward = ViTForImageClassification.forward

    @functools.wraps(forward)
    def penalised(self, *args, **kwargs):
        outputs = forward(self, *args, **kwargs)
        outputs.loss = outputs.loss + 0.1
        return outputs

    monkeypatch.setattr(ViTForImageClassification, "forward", penalised)
    with pytest.raises(ValueError, match=r"mean of −log p over the labels is.*other terms"):
        ScoreVITrainer(tiny_vit(), arguments(tmp_path, max_steps=1), train_dataset=images()).train()


@pytest.mark.parametrize("name", ["language", "tokens", "pixels", "spans"])
def test_a_loss_of_ones_own_for_tokens_is_compared_where_its_labels_are(tmp_path, name):
    """The logits of a language model are those of the next token."""

    def mean(outputs, labels, num_items_in_batch=None):
        return outputs["loss"]

    def weighted(outputs, labels, num_items_in_batch=None):
        return 1.1 * outputs["loss"]

    for loss, fits in ((mean, True), (weighted, False)):
        model, data = make_head(name)

        class Own(ScoreVITrainer):
            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None, loss=loss):
                outputs = model(**inputs)
                value = loss(outputs, None)
                return (value, outputs) if return_outputs else value

        args = arguments(tmp_path, max_steps=2, gradient_accumulation_steps=2, per_device_train_batch_size=2)
        trainer = Own(model, args, train_dataset=data)
        if fits:
            trainer.train()
        else:
            with pytest.raises(ValueError, match="focal, weighted or smoothed"):
                trainer.train()
