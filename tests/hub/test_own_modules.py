"""Modules of a user's own: they are saved by name, and loaded into one that the user gives."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import ViTModel, ViTPreTrainedModel

from hf_scorevi import BayesianModel, PosteriorCheckpointError, ScoreVITrainer
from hf_scorevi.hub.own_modules import whole_tensors
from hf_scorevi.hub.untrusted import sha256
from tests.hub_server import HubServer, online
from tests.tiny_models import arguments, images, tiny_vit

TEST = images(9, seed=3)
PIXELS = TEST.columns["pixel_values"]


class Net(nn.Module):
    """A head around a backbone, with a shared weight, running statistics and a mask."""

    def __init__(self, classes=3, seed=0, width=16):
        super().__init__()
        torch.manual_seed(seed)
        config = tiny_vit(num_hidden_layers=1).config
        self.body = ViTModel(config, add_pooling_layer=False)
        self.norm = nn.BatchNorm1d(16)
        self.first, self.second = nn.Linear(16, width), nn.Linear(16, width)
        self.second.weight = self.first.weight
        self.head = nn.Linear(width, classes)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("offset", torch.ones(1), persistent=False)

    def forward(self, pixel_values, labels=None):
        hidden = self.norm(self.body(pixel_values).last_hidden_state[:, 0])
        logits = self.head(self.second(self.first(hidden)) + self.mask[0] * self.offset)
        outputs = {"logits": logits}
        return outputs if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)} | outputs


class Own(ViTPreTrainedModel):
    """A transformers model that transformers does not have."""

    def __init__(self, config, classes=3):
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.own = nn.Linear(config.hidden_size, classes)
        self.post_init()

    def forward(self, pixel_values, labels=None, **kwargs):
        logits = self.own(self.vit(pixel_values).last_hidden_state[:, 0])
        outputs = {"logits": logits}
        return outputs if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)} | outputs


def own(seed=0, **kwargs):
    torch.manual_seed(seed)
    return Own(tiny_vit(num_hidden_layers=1).config, **kwargs)


def adapted(**kwargs):
    config = LoraConfig(r=2, target_modules=["first"], modules_to_save=["head"])
    return get_peft_model(Net(**kwargs), config)


MAKE = {"module": (Net, Net), "model": (own, own), "adapter": (adapted, Net)}


def trained(folder, model, **kwargs):
    args = arguments(folder, max_steps=4, curvature_interval=2, learning_rate=1e-2, **kwargs)
    trainer = ScoreVITrainer(model, args, train_dataset=images(), eval_dataset=images(seed=1))
    trainer.train()
    return trainer


@pytest.fixture(scope="module", params=MAKE)
def run(request, tmp_path_factory):
    """What makes a module to load into, the trainer, and where it has saved."""
    make, given = MAKE[request.param]
    folder = tmp_path_factory.mktemp("own")
    trainer = trained(folder, make())
    trainer.save_model()
    return given, trainer, folder


def differing(found, expected):
    return [name for name, tensor in expected.items() if not torch.equal(found[name].cpu(), tensor.cpu())]


def test_it_is_loaded_into_a_module_that_is_given(run, tmp_path):
    given, trainer, folder = run
    loaded = BayesianModel.from_pretrained(folder, base_model=given(seed=5))
    assert differing(dict(loaded.model.state_dict()), dict(trainer.model.state_dict())) == []
    assert differing(loaded.posterior.precision, trainer.posterior.precision) == []
    out = loaded.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed)
    expected = torch.tensor(trainer.predict(TEST).predictions).exp()
    assert torch.allclose(out.probs, expected, atol=1e-6)
    many = loaded.predict_dataset(TEST, num_samples=4, seed=trainer.args.seed)
    assert torch.allclose(many.probs, expected, atol=1e-6)
    loaded.save_pretrained(tmp_path)
    again = BayesianModel.from_pretrained(tmp_path, base_model=given(seed=6))
    assert torch.equal(again.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed).probs, out.probs)


def test_without_one_it_says_that_this_is_the_way(run):
    with pytest.raises(PosteriorCheckpointError, match=r"base_model=mod") as caught:
        BayesianModel.from_pretrained(run[2])
    assert "save the checkpoint again" not in str(caught.value)


def test_it_goes_to_the_hub_and_back(run, tmp_path):
    given, trainer, folder = run
    with HubServer() as hub, online(hub, tmp_path / "home"):
        BayesianModel.from_pretrained(folder, base_model=given()).push_to_hub("user/own")
        loaded = BayesianModel.from_pretrained("user/own", base_model=given(seed=5))
        assert differing(dict(loaded.model.state_dict()), dict(trainer.model.state_dict())) == []
        with pytest.raises(PosteriorCheckpointError, match=r"base_model=mod"):
            BayesianModel.from_pretrained("user/own")


def test_another_module_is_refused_and_stays_as_it_is(run):
    given, _, folder = run
    other = given(classes=5)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(PosteriorCheckpointError, match=r"(head|own)\.(weight|bias)' has the shape \(5") as caught:
        BayesianModel.from_pretrained(folder, base_model=other)
    assert "save the checkpoint again" not in str(caught.value)
    assert differing(dict(other.state_dict()), before) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.register_buffer("more", torch.ones(1)), "has 1 tensors more, e.g. 'more'"),
        (lambda net: delattr(net, "norm"), r"lacks 5 of them, e\.g\. 'norm\.bias'"),
        (lambda net: net.to("meta"), "meta device"),
    ],
)
def test_a_module_of_other_names_is_refused(tmp_path, change, message):
    trained(tmp_path, Net()).save_model()
    net = Net()
    change(net)
    with pytest.raises(ValueError, match=message):
        BayesianModel.from_pretrained(tmp_path, base_model=net)


def test_it_becomes_float32(tmp_path):
    trainer = trained(tmp_path, Net())
    trainer.save_model()
    loaded = BayesianModel.from_pretrained(tmp_path, base_model=Net().double())
    assert {t.dtype for t in loaded.model.state_dict().values()} == {torch.float32, torch.int64}
    assert differing(dict(loaded.model.state_dict()), dict(trainer.model.state_dict())) == []


def test_a_shared_weight_is_stored_under_each_of_its_names(tmp_path):
    trained(tmp_path, Net()).save_model()
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["first.weight"], stored["second.weight"])
    loaded = BayesianModel.from_pretrained(tmp_path, base_model=Net(seed=4)).model
    assert loaded.first.weight is loaded.second.weight
    assert json.loads((tmp_path / "posterior_config.json").read_text())["module"] == "Net"


def test_tensors_have_memory_of_their_own():
    whole = torch.arange(12.0).view(3, 4)
    found = whole_tensors({"a": whole, "b": whole, "row": whole[1], "turned": whole.t(), "note": "x"})
    assert len({t.untyped_storage().data_ptr() for t in found.values()}) == len(found) == 4
    assert all(t.is_contiguous() and t.untyped_storage().nbytes() == t.nbytes for t in found.values())
    assert torch.equal(found["row"], whole[1])
    assert torch.equal(found["turned"], whole.t())


@pytest.mark.parametrize("kind", MAKE)
def test_resuming_and_the_best_model(tmp_path, kind):
    make, _ = MAKE[kind]
    steps = dict(
        eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, per_device_eval_batch_size=9
    )
    best = dict(load_best_model_at_end=True, metric_for_best_model="nll", greater_is_better=True)  # the worst: first
    trainer = trained(tmp_path / "best", make(), **steps, **best)
    chosen = trainer.state.best_model_checkpoint
    assert chosen.endswith("checkpoint-2")
    again = make(seed=5)  # a fresh process starts from other random numbers
    other = trained(tmp_path / "other", again)
    other.load_model(chosen)
    assert differing(dict(other.model.state_dict()), dict(trainer.model.state_dict())) == []

    whole = trained(tmp_path / "whole", make(), save_strategy="steps", save_steps=2)
    args = arguments(tmp_path / "whole", max_steps=4, curvature_interval=2, learning_rate=1e-2)
    resumed = ScoreVITrainer(make(seed=5), args, train_dataset=images(), eval_dataset=images(seed=1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert differing(dict(resumed.model.state_dict()), dict(whole.model.state_dict())) == []
    assert differing(resumed.posterior.precision, whole.posterior.precision) == []


@pytest.mark.parametrize("kind", MAKE)
def test_a_trainer_refuses_weights_of_another_model(tmp_path, kind):
    make, _ = MAKE[kind]
    trained(tmp_path / "a", make()).save_model()
    other = trained(tmp_path / "b", make(classes=5))
    with pytest.raises(PosteriorCheckpointError, match=r"(head|own).*(shape|has)"):
        other.load_model(tmp_path / "a")


def test_weights_of_transformers_go_into_a_model_that_is_given(tmp_path):
    trainer = trained(tmp_path, tiny_vit())
    trainer.save_model()
    given = tiny_vit(seed=3)
    loaded = BayesianModel.from_pretrained(tmp_path, base_model=given)
    assert loaded.model is given
    assert differing(dict(given.state_dict()), dict(trainer.model.state_dict())) == []
    for other, message in (
        (tiny_vit(num_labels=5), r"'classifier\.(weight|bias)' has the shape \(5"),
        (tiny_vit().vit, "classifier"),
        (tiny_vit(num_hidden_layers=1), "layers"),
    ):
        with pytest.raises(PosteriorCheckpointError, match=message):
            BayesianModel.from_pretrained(tmp_path, base_model=other)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["head.bias", "body.embeddings.cls_token", "norm.running_var"])
def test_a_mean_that_is_not_finite_is_refused(tmp_path, name, value):
    trained(tmp_path, Net()).save_model()
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[1] = value
    save_file(tensors, path)
    config = tmp_path / "posterior_config.json"
    values = json.loads(config.read_text())
    values["mean_sha256"] = {path.name: sha256(path)}
    config.write_text(json.dumps(values))
    with pytest.raises(PosteriorCheckpointError, match=f"mean of '{name}' .* is not finite everywhere.*earlier"):
        BayesianModel.from_pretrained(tmp_path, base_model=Net())
    trainer = ScoreVITrainer(Net(), arguments(tmp_path / "x"), train_dataset=images())
    with pytest.raises(PosteriorCheckpointError, match=f"mean of '{name}' .* is not finite everywhere"):
        trainer.load_model(tmp_path)
    assert name == "norm.running_var" or differing(dict(trainer.model.state_dict()), dict(Net().state_dict())) == []
