"""Optimizers of the user's own."""

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.training.optimizers import spare
from tests.tiny_models import arguments, images, tiny_vit

HEAD = PosteriorConfig(target=["classifier"])


@pytest.fixture
def said(monkeypatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr("hf_scorevi.training.optimizers.logger.warning", messages.append)
    return messages


def run(folder, make, config=None, **kwargs) -> ScoreVITrainer:
    """Trains with the optimizer that `make` gives for a model."""
    model = tiny_vit()
    trainer = ScoreVITrainer(
        model,
        arguments(folder, max_steps=10),
        train_dataset=images(),
        posterior_config=config,
        optimizers=(make(model), None),
        **kwargs,
    )
    trainer.train()
    return trainer


def weights(trainer: ScoreVITrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


MAKERS = {
    "AdamW": lambda model, decay: torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=decay),
    "named": lambda model, decay: torch.optim.AdamW(model.named_parameters(), lr=1e-3, weight_decay=decay),
    "SGD": lambda model, decay: torch.optim.SGD(model.parameters(), lr=1e-2, weight_decay=decay),
    "ASGD": lambda model, decay: torch.optim.ASGD(model.parameters(), lr=1e-2, lambd=decay),
}


@pytest.mark.parametrize("name", MAKERS)
def test_no_decay_reaches_bayesian_weights(tmp_path, said, name):
    without, with_decay = (run(tmp_path, lambda model, d=d: MAKERS[name](model, d)) for d in (0.0, 10.0))
    assert torch.equal(weights(without), weights(with_decay))
    assert len(said) == 1 and "=10 of " in said[0] and "taken off the Bayesian weights" in said[0]


@pytest.mark.parametrize("named", [False, True])
def test_other_weights_keep_their_decay_and_their_state(tmp_path, said, named):
    def make(model):
        params = model.named_parameters() if named else model.parameters()
        return torch.optim.AdamW(params, lr=1e-3, weight_decay=0.5)

    trainer = run(tmp_path, make, HEAD)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    decays = {names[id(p)]: g["weight_decay"] for g in trainer.optimizer.param_groups for p in g["params"]}
    assert decays == {name: 0.0 if name.startswith("classifier") else 0.5 for name in names.values()}
    for group in trainer.optimizer.param_groups if named else ():
        assert group["param_names"] == [names[id(p)] for p in group["params"]]
    assert len(said) == 1
    trainer.train()  # the second time there is nothing to take off
    assert len(said) == 1 and len(trainer.optimizer.param_groups) == 2


def test_a_schedule_of_the_users_goes_on_moving_every_group(tmp_path, said):
    """Its groups cannot be divided: the one with Bayesian weights loses its decay whole, and the warning says so."""
    model = tiny_vit()
    own = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.5)
    schedule = get_linear_schedule_with_warmup(own, 0, 4)
    trainer = ScoreVITrainer(
        model,
        arguments(tmp_path, max_steps=4),
        train_dataset=images(),
        posterior_config=HEAD,
        optimizers=(own, schedule),
    )
    trainer.train()
    assert [(g["weight_decay"], g["lr"]) for g in own.param_groups] == [(0.0, 0.0)]
    assert len(said) == 1 and "give those a group of their own" in said[0]


def test_an_optimizer_of_several(said):
    """Whose list of groups is made anew for each who asks: what is put into it is lost."""

    class Several:
        def __init__(self, *parts):
            self.parts = parts

        @property
        def param_groups(self):
            return [group for part in self.parts for group in part.param_groups]

    a, b, c = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    several = Several(torch.optim.SGD([a, b], 0.1, weight_decay=1.0), torch.optim.SGD([c], 0.1, weight_decay=1.0))
    spare(several, [b], scheduled=False)
    assert [(len(g["params"]), g["weight_decay"]) for g in several.param_groups] == [(2, 0.0), (1, 1.0)]
    assert len(said) == 1 and "give those a group of their own" in said[0]


def test_classes_and_their_defaults(tmp_path, said):
    args = arguments(tmp_path, max_steps=1)
    own = torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.3}
    trainer = ScoreVITrainer(tiny_vit(), args, train_dataset=images(), optimizer_cls_and_kwargs=own)
    trainer.train()
    assert [g["weight_decay"] for g in trainer.optimizer.param_groups] == [0.0]


def test_a_create_optimizer_of_the_users(tmp_path, said):
    class Own(ScoreVITrainer):
        def create_optimizer(self, model=None):
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.3)
            return self.optimizer

    trainer = Own(tiny_vit(), arguments(tmp_path, max_steps=1), train_dataset=images())
    trainer.train()
    assert [g["weight_decay"] for g in trainer.optimizer.param_groups] == [0.0]
    assert len(said) == 1


def test_a_resumed_run_divides_the_groups_alike(tmp_path, said):
    """Its state is loaded by the place of the groups."""

    def make(folder, **kwargs):
        model = tiny_vit()
        own = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
        args = arguments(folder, max_steps=4, **kwargs)
        return ScoreVITrainer(model, args, train_dataset=images(), posterior_config=HEAD, optimizers=(own, None))

    straight = make(tmp_path, save_strategy="steps", save_steps=2)
    straight.train()
    resumed = make(tmp_path / "again")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(weights(straight), weights(resumed))


def test_an_optimizer_of_another_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"AdamW given has none of the model's .* Bayesian weights: it was made for"):
        run(tmp_path, lambda model: torch.optim.AdamW(tiny_vit().parameters()))


def test_bayesian_weights_that_it_lacks_are_named(tmp_path, said):
    run(tmp_path, lambda model: torch.optim.SGD(model.classifier.parameters(), lr=0.1))
    assert len(said) == 1 and "are not in the optimizer given, e.g. vit.embeddings" in said[0]
