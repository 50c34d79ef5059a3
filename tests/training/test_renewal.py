"""What a trainer finds out of its data and its model holds as long as these are what they were."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from tests.tiny_models import Examples, arguments, images, tiny_resnet, tiny_vit


def regression(n: int, noise: float = 0.3, seed: int = 0) -> Examples:
    data = images(n, seed=seed)
    torch.manual_seed(seed)
    data.columns["labels"] = data.columns["pixel_values"].mean((1, 2, 3)) + noise * torch.randn(n)
    return data


def multi_label(n: int = 24) -> Examples:
    data = images(n)
    data.columns["labels"] = torch.nn.functional.one_hot(data.columns["labels"], 3).float()
    return data


def make(folder, model=None, data=None, config=None, **kwargs) -> ScoreVITrainer:
    settings = dict(max_steps=4, curvature_interval=1) | kwargs
    return ScoreVITrainer(
        model or tiny_vit(),
        arguments(folder, **settings),
        train_dataset=data or images(),
        eval_dataset=images(12, seed=1),
        posterior_config=config,
    )


def stds(trainer: ScoreVITrainer) -> dict[str, float]:
    return {name: precision.mean().item() ** -0.5 for name, precision in trainer.posterior.precision.items()}


def test_more_data_weigh_more_and_learning_goes_on(tmp_path):
    trainer = make(tmp_path)
    trainer.train()
    assert trainer.likelihood.num_data == 24
    before, steps, mean = stds(trainer), trainer.update.average.steps, trainer.model.classifier.weight.detach().clone()
    trainer.train_dataset = images(4800)
    trainer.train()
    weights = trainer.posterior.num_weights
    assert (trainer.likelihood.num_data, trainer.likelihood.temperature) == (4800, min(1.0, 4800 / weights))
    assert trainer.update.likelihood_weight == trainer.likelihood.weight
    assert trainer.update.average.steps == steps + 4  # the averages were not begun anew
    assert (trainer.model.classifier.weight - mean).abs().max() < 0.1  # nor the weights
    after = stds(trainer)
    assert all(after[name] != before[name] for name in before)
    trainer.save_model()
    assert BayesianModel.from_pretrained(tmp_path).stored.num_data == 4800


def test_a_posterior_that_was_not_trained_is_recorded_with_the_data_that_are_there(tmp_path):
    trainer = make(tmp_path)
    for n in (24, 48):
        trainer.train_dataset = images(n)
        trainer.save_model()
        assert BayesianModel.from_pretrained(tmp_path).stored.num_data == n


def test_the_settings_of_the_likelihood_are_read_again(tmp_path):
    trainer = make(tmp_path, config=PosteriorConfig(temperature=0.5))
    trainer.train()
    trainer.posterior_config.temperature, trainer.posterior_config.num_data = 0.25, 1000
    trainer.train()
    assert (trainer.likelihood.num_data, trainer.likelihood.temperature) == (1000, 0.25)


def test_another_family_makes_another_posterior(tmp_path):
    trainer = make(tmp_path)
    trainer.train()
    trainer.posterior_config = PosteriorConfig(family="diagonal")
    trainer.train()
    trainer.save_model()
    assert trainer.posterior.family.name == BayesianModel.from_pretrained(tmp_path).posterior.family.name == "diagonal"


def test_another_objective_moves_the_posterior_otherwise(tmp_path):
    trainer = make(tmp_path)
    trainer.train()
    trainer.args.objective = "elbo"
    trainer.train()
    assert type(trainer.update).__name__ == "ElboUpdate"


def test_the_noise_that_was_learned_is_gone_on_with(tmp_path):
    trainer = make(tmp_path, tiny_vit(num_labels=1), regression(24), max_steps=20)
    trainer.train()
    noise, steps = trainer.likelihood.noise.value.item(), trainer.likelihood.noise.steps
    trainer.train_dataset = regression(96, seed=1)
    assert trainer.evaluate(regression(12, seed=2))["eval_loss"] > 0
    assert trainer.likelihood.noise.value.item() == noise  # data alone change nothing that was learned
    trainer.train()
    assert trainer.likelihood.num_data == 96
    assert trainer.likelihood.noise.steps == steps + 20


def test_several_labels_that_only_the_first_batch_tells(tmp_path):
    """transformers fills `problem_type` in by the labels' dtype, and the loss is then a mean over labels too."""
    known = make(tmp_path, tiny_vit(problem_type="multi_label_classification"), multi_label())
    found = make(tmp_path, tiny_vit(), multi_label())
    for trainer in (known, found):
        trainer.train()
        assert trainer.likelihood.num_data == 72
    a, b = (torch.cat([v.detach().flatten() for v in t.posterior.params]) for t in (known, found))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stds(known), stds(found), rtol=1e-4, atol=0)


@pytest.mark.parametrize("door", ["evaluate", "predict"])
def test_several_labels_that_only_an_evaluation_tells(tmp_path, door):
    found = []
    for problem_type in ("multi_label_classification", None):
        trainer = make(tmp_path, tiny_vit(problem_type=problem_type))
        if door == "predict":
            prediction = trainer.predict(multi_label(12))
            found.append((prediction.predictive.probs, prediction.metrics["test_nll"]))
        else:
            metrics = trainer.evaluate(multi_label(12))
            found.append(
                [
                    (name, value)
                    for name, value in sorted(metrics.items())
                    if "_time" not in name and "_per_" not in name and "runtime" not in name
                ]
            )
    assert str(found[0]) == str(found[1])


def test_another_model_has_another_posterior(tmp_path):
    trainer = make(tmp_path)
    trainer.train()
    other = tiny_resnet()
    trainer.model = other
    trainer.evaluate()
    assert trainer.posterior.parameters() == dict(other.named_parameters())
    trainer.train()
    trainer.save_model()
    before = tiny_resnet()
    assert all(not torch.equal(p, q) for p, q in zip(other.parameters(), before.parameters(), strict=True))
    loaded = BayesianModel.from_pretrained(tmp_path)
    assert type(loaded.model) is type(other) and loaded.posterior.names == trainer.posterior.names


def test_another_model_takes_other_columns(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 3)

        def forward(self, picture, labels):
            logits = self.layer(picture.flatten(1))
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    trainer = make(tmp_path)
    trainer.train()
    columns = images().columns
    trainer.model = Net()
    trainer.train_dataset = Examples(picture=columns["pixel_values"], labels=columns["labels"])
    trainer.train()
    assert trainer.evaluate(trainer.train_dataset)["eval_nll"] > 0


def test_a_layer_that_was_unfrozen_joins_and_the_others_keep_what_they_know(tmp_path):
    model = tiny_vit()
    model.vit.requires_grad_(False)
    trainer = make(tmp_path, model)
    trainer.train()
    head, learned = stds(trainer), trainer.posterior.precision["classifier.weight"].clone()
    centre = dict(zip(trainer.posterior.names, trainer.prior.mean, strict=True))
    model.vit.layers[1].requires_grad_(True)
    trainer.args.curvature_interval = 10**6  # precisions stay: a first estimate moves none
    body = model.vit.layers[1].mlp.fc1.weight.detach().clone()
    trainer.train()
    assert set(trainer.posterior.names) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert torch.equal(trainer.posterior.precision["classifier.weight"], learned)
    rms = body.square().mean().sqrt().item()
    assert stds(trainer)["vit.layers.1.mlp.fc1.weight"] == pytest.approx(0.01 * rms, rel=1e-4)
    after = dict(zip(trainer.posterior.names, trainer.prior.mean, strict=True))
    assert all(torch.equal(after[name], centre[name]) for name in head)
    assert not torch.equal(model.vit.layers[1].mlp.fc1.weight, body)  # the optimizer has it too


def test_a_layer_that_is_unfrozen_during_training_is_mentioned(tmp_path, monkeypatch):
    from transformers import TrainerCallback

    said = []
    monkeypatch.setattr("hf_scorevi.training.renewing.logger.warning_once", said.append)
    model = tiny_vit()
    model.vit.requires_grad_(False)

    class Unfreeze(TrainerCallback):
        def on_epoch_end(self, *args, model=None, **kwargs):
            model.vit.layers.requires_grad_(True)

    trainer = make(tmp_path, model, max_steps=-1, num_train_epochs=2)
    trainer.add_callback(Unfreeze())
    trainer.train()
    assert len(said) == 1 and "have become trainable, e.g. vit.layers.0" in said[0]


def test_frozen_for_an_evaluation_the_weights_keep_their_posterior(tmp_path):
    trainer = make(tmp_path)
    trainer.train()
    trained, metrics = stds(trainer), trainer.evaluate()
    trainer.model.requires_grad_(False)
    again = trainer.evaluate()
    assert stds(trainer) == trained and again["eval_nll"] == metrics["eval_nll"]


def test_weights_frozen_before_another_training_lose_theirs_with_a_word(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_scorevi.training.renewing.logger.warning", said.append)
    trainer = make(tmp_path)
    trainer.train()
    learned = trainer.posterior.precision["classifier.weight"].clone()
    trainer.model.vit.requires_grad_(False)
    trainer.args.curvature_interval, trainer.args.max_steps = 10**6, 1
    trainer.args.learning_rate = 0.0
    trainer.train()
    assert trainer.posterior.names == ["classifier.weight", "classifier.bias"]
    # step 0 is a curvature step, which moves it: but from where it was, not from the start
    ratio = (trainer.posterior.precision["classifier.weight"] / learned).item()
    assert 0.2 < ratio < 5
    assert len(said) == 1 and "no longer trainable, and what their posterior had learned is dropped" in said[0]


def test_an_adapter_that_was_added(tmp_path):
    trainer = make(tmp_path)
    trainer.model = get_peft_model(
        trainer.model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    )
    trainer.train()
    names = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert set(trainer.posterior.names) == names and any("lora_A" in name for name in names)
    trainer.save_model()
    assert (tmp_path / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("door", ["evaluate", "train", "save_model"])
def test_a_head_that_was_replaced(tmp_path, door):
    trainer = make(tmp_path)
    trainer.train()
    body = trainer.posterior.precision["vit.layers.0.mlp.fc1.weight"].clone()
    trainer.model.classifier = nn.Linear(16, 3)
    getattr(trainer, door)()
    assert trainer.posterior.parameters() == dict(trainer.model.named_parameters())
    if door != "train":
        assert torch.equal(trainer.posterior.precision["vit.layers.0.mlp.fc1.weight"], body)


def test_a_search_leaves_no_model_and_the_next_training_has_one(tmp_path):
    trainer = ScoreVITrainer(
        args=arguments(tmp_path, max_steps=2),
        train_dataset=images(),
        eval_dataset=images(12),
        model_init=lambda: tiny_vit(),
    )
    trainer.train()
    trainer.model = trainer.model_wrapped = None  # as transformers does after each trial
    for door in (trainer.evaluate, trainer.save_model, lambda: trainer.predict(images(12))):
        with pytest.raises(ValueError, match=r"no model: a hyperparameter search leaves none.*trainer\.train\(\)"):
            door()
    trainer.train()
    assert trainer.posterior.parameters() == dict(trainer.model.named_parameters())
    trainer.save_model()


def test_an_evaluation_is_not_kept_beside_weights_that_were_trained_on(tmp_path):
    """Though the second training ends at the same step."""
    trainer = make(tmp_path)
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    assert BayesianModel.from_pretrained(tmp_path).evaluations
    trainer.train()
    trainer.save_model()
    assert not BayesianModel.from_pretrained(tmp_path).evaluations


def test_a_loaded_posterior_is_trained_on(tmp_path):
    """One whose weights a function chose, of which the checkpoint knows only what it chose."""
    first = make(tmp_path, config=PosteriorConfig(target=lambda name, p: "classifier" in name, family="diagonal"))
    first.train()
    first.save_model()
    trainer = make(tmp_path, tiny_vit(seed=5))
    trainer.load_model(tmp_path)
    loaded = trainer.posterior.precision["classifier.weight"].clone()
    assert torch.equal(loaded, first.posterior.precision["classifier.weight"])
    trainer.evaluate()
    assert torch.equal(trainer.posterior.precision["classifier.weight"], loaded)
    trainer.train()
    assert trainer.posterior.names == ["classifier.weight", "classifier.bias"]
    assert not torch.equal(trainer.posterior.precision["classifier.weight"], loaded)


def test_the_noise_stays_when_a_layer_is_unfrozen(tmp_path):
    model = tiny_vit(num_labels=1)
    model.vit.requires_grad_(False)
    trainer = make(tmp_path, model, regression(24), max_steps=6)
    trainer.train()
    model.vit.requires_grad_(True)
    trainer.train()
    assert trainer.likelihood.noise.steps == 12


def test_another_prior_leaves_what_was_learned(tmp_path):
    trainer = make(tmp_path, config=PosteriorConfig(prior_std=0.5))
    trainer.train()
    learned = stds(trainer)
    trainer.posterior_config = PosteriorConfig(prior_std=0.25)
    trainer.args.curvature_interval = 10**6
    trainer.train()
    assert set(trainer.prior.std) == {0.25}
    assert stds(trainer) == learned


def test_the_best_model_is_not_saved_with_the_last_evaluation(tmp_path):
    """The best is that of the first step here, and the last figures are of other weights."""
    kwargs = dict(max_steps=3, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1,
                  metric_for_best_model="nll", load_best_model_at_end=True, learning_rate=0.1)  # fmt: skip
    trainer = make(tmp_path, **kwargs)

    def scores(metrics, trial=None):
        metrics["eval_nll"] = float(trainer.state.global_step)
        return original(metrics, trial)

    original, trainer._determine_best_metric = trainer._determine_best_metric, scores
    trainer.train()
    assert trainer.state.best_global_step == 1
    trainer.save_model(str(tmp_path / "best"))
    assert not BayesianModel.from_pretrained(tmp_path / "best").evaluations
    assert BayesianModel.from_pretrained(tmp_path / "checkpoint-1").evaluations
