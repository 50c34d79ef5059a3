"""A draw equals a fresh model that was loaded with that draw's weights, whatever modules keep of their weights."""

import copy
import functools
import gc
import weakref
from types import MethodType, SimpleNamespace

import pytest
import torch
import transformers
from accelerate.hooks import attach_align_device_hook
from accelerate.utils import convert_outputs_to_fp32
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.hub import StoredPosterior
from hf_scorevi.posterior import Posterior, draw_seed, select_parameters
from hf_scorevi.predictive import generated_paths
from hf_scorevi.twin import Twins
from tests import architectures
from tests.forecasters import CONTEXT, tiny_koopa, tiny_patchtst
from tests.predictive.test_paths import model_and_batch
from tests.tiny_models import Examples, arguments, tiny_vit

DRAWS = 2


def bayesian(model, **config):
    settings = PosteriorConfig(**({"init_std": 0.3} | config))
    posterior = Posterior.initialise(select_parameters(model, settings.target), settings)
    return BayesianModel(model, posterior, StoredPosterior(settings, 1, 1.0))


@torch.no_grad()
def fresh_model(posterior, build, seed):
    """A new model with the weights of a draw, loaded before it is used."""
    fresh = build()
    own = dict(fresh.named_parameters())
    weights = [torch.empty_like(p) for p in posterior.params]
    posterior.draw_(weights, seed)
    for name, value in zip(posterior.names, weights, strict=True):
        own[name].copy_(value)
    return fresh.eval()


@pytest.mark.parametrize("name", architectures.classifiers())
def test_a_draw_of_a_classifier_is_a_fresh_model(name, tmp_path):
    net, batch = architectures.build(name)
    model = bayesian(net)
    state = copy.deepcopy(net.state_dict())
    mean = model.predict(**batch, use_mean=True, return_logits=True).logits  # what is kept is kept of the mean
    settings = {"num_samples": DRAWS, "seed": 0, "return_logits": True}
    logits = model.predict(**batch, **settings).logits
    trainer = ScoreVITrainer(
        net,
        arguments(tmp_path, eval_num_samples=DRAWS, seed=0, batch_norm_batches=0),
        posterior_config=PosteriorConfig(init_std=0.3),
    )
    trainer.posterior = model.posterior
    evaluated = trainer.predict(Examples(**batch, labels=torch.tensor([0, 1])), return_logits=True).predictive.logits
    for draw in range(DRAWS):
        fresh = fresh_model(model.posterior, lambda: architectures.build(name)[0], draw_seed(0, draw))
        with torch.no_grad():
            expected = fresh(**batch).logits
        assert torch.equal(logits[draw], expected)
        assert torch.equal(evaluated[draw], expected)
        assert not torch.equal(expected, mean[0])
    assert torch.equal(model.predict(**batch, use_mean=True, return_logits=True).logits, mean)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


class Keeping(nn.Module):
    """A classifier with a scale that it derives from its weights, and keeps somewhere."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)
        self.table = nn.Parameter(torch.randn(4))
        self.index = torch.tensor([3, 1, 0, 2])  # a constant that is no buffer

    def derived(self):
        return self.table[self.index].exp()

    def kept(self):
        return self.derived()

    def forward(self, x, labels=None):
        logits = self.linear(x * self.kept())
        outputs = {"logits": logits}
        if labels is not None:
            outputs = {"loss": nn.functional.cross_entropy(logits, labels)} | outputs
        return outputs


class InAttribute(Keeping):
    scale = None

    def kept(self):
        if self.training:
            return self.derived()
        if self.scale is None:
            self.scale = self.derived()
        return self.scale


class InNewAttribute(Keeping):
    def kept(self):
        if not hasattr(self, "scale"):
            self.scale = self.derived()
        return self.derived() if self.training else self.scale


class InDictionary(Keeping):
    def __init__(self):
        super().__init__()
        self.cache = {"constant": self.index}

    def kept(self):
        if "scale" not in self.cache:
            self.cache["scale"] = self.derived()
        return self.derived() if self.training else self.cache["scale"]


class InList(Keeping):
    def __init__(self):
        super().__init__()
        self.cache = []

    def kept(self):
        if not self.cache:
            self.cache.append((self.derived(), "of these weights"))
        return self.derived() if self.training else self.cache[0][0]


class InObject(Keeping):
    def __init__(self):
        super().__init__()
        self.state = SimpleNamespace(scale=None, calls={})

    def kept(self):
        if self.state.scale is None:
            self.state.scale = self.derived()
        return self.derived() if self.training else self.state.scale


class AsNumbers(Keeping):
    scale = None

    def kept(self):
        if self.training:
            return self.derived()
        if self.scale is None:
            self.scale = self.derived().tolist()
        return torch.tensor(self.scale)


class Property(Keeping):
    @functools.cached_property
    def scale(self):
        return self.derived()

    def kept(self):
        return self.derived() if self.training else self.scale


class Remembered(Keeping):
    @functools.lru_cache(maxsize=4)  # noqa: B019 - people do
    def scale(self):
        return self.derived()

    def kept(self):
        return self.derived() if self.training else self.scale()


class RememberedByItself(Keeping):
    def __init__(self):
        super().__init__()
        self.scale = functools.lru_cache(self.derived)

    def kept(self):
        return self.derived() if self.training else self.scale()


class AtChangeOfMode(Keeping):
    def train(self, mode=True):
        super().train(mode)
        self.scale = None if mode else self.derived().detach()
        return self

    def kept(self):
        return self.derived() if self.training else self.scale


class InBuffer(Keeping):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.zeros(4), persistent=False)

    def train(self, mode=True):
        super().train(mode)
        with torch.no_grad():
            self.scale.copy_(self.derived())
        return self

    def kept(self):
        return self.derived() if self.training else self.scale


class Merged(Keeping):
    """As LoRA layers do: the product is in the frozen weight while evaluating."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        with torch.no_grad():
            if mode == self.merged:
                self.frozen += -self.derived() if mode else self.derived()
                self.merged = not mode
        return self

    def kept(self):
        return self.frozen if self.merged else self.frozen + self.derived()


class Leading(Keeping):
    """Attributes that lead back to the module."""

    def __init__(self):
        super().__init__()
        this = self
        self.parts = [self.linear.weight, weakref.ref(self.table)]
        self.bound = self.derived
        self.partial = functools.partial(type(self).derived, self)
        self.closure = lambda: this.derived()
        self.helper = SimpleNamespace(owner=self, functions={"derived": self.derived})
        self.linear.register_forward_pre_hook(lambda module, args: (args[0] * this.table.mean(),))

    def kept(self):
        scale = self.bound() * self.partial() * self.closure() * self.helper.functions["derived"]()
        return scale * self.helper.owner.derived() * self.parts[0].mean() * self.parts[1]().mean()


class Normalised(Keeping):
    def __init__(self):
        super().__init__()
        self.linear = nn.utils.parametrizations.weight_norm(self.linear)


class Tied(Keeping):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x, labels=None):
        return super().forward(self.second(self.first(x).tanh()), labels)


def subclasses(kind):
    return [one for own in kind.__subclasses__() for one in (own, *subclasses(own))]


KEEPING = subclasses(Keeping)


@pytest.mark.parametrize("kind", KEEPING)
def test_a_draw_of_one_s_own_module_is_a_fresh_model(kind, tmp_path):
    net, x = kind(), torch.randn(5, 4)
    model = bayesian(net)
    trainer = ScoreVITrainer(net, arguments(tmp_path, eval_num_samples=3, seed=0))
    trainer.posterior = model.posterior
    before = model.predict(x=x, use_mean=True, return_logits=True).logits[0]
    if kind is not AsNumbers:  # which cannot be told from what a user has set
        net(x)  # what is kept is kept of the mean
    settings = {"num_samples": 3, "seed": 0, "return_logits": True}
    logits = model.predict(x=x, **settings).logits
    with torch.no_grad(), model.sample(0) as drawn:
        sampled = drawn(x)["logits"]
    evaluated = trainer.predict(Examples(x=x, labels=torch.tensor([0, 1, 2, 0, 1])), return_logits=True)
    for draw in range(3):
        fresh = fresh_model(model.posterior, kind, draw_seed(0, draw))
        with torch.no_grad():
            expected = fresh(x)["logits"]
        if kind is Merged:  # the sums of weights are rounded
            torch.testing.assert_close(logits[draw], expected)
            torch.testing.assert_close(evaluated.predictive.logits[draw], expected)
        else:
            assert torch.equal(logits[draw], expected)
            assert kind is AsNumbers or torch.equal(evaluated.predictive.logits[draw], expected)
        if draw == 0:
            torch.testing.assert_close(sampled, expected)
        assert not torch.allclose(expected, before)
    if kind not in (InBuffer, Merged, Leading, AsNumbers):  # in which vmap forbids to write, or to read
        torch.testing.assert_close(model.predict(x=x, **settings, draws_at_once=2).logits, logits)
    with torch.no_grad():
        assert torch.equal(net(x)["logits"], before)
        torch.testing.assert_close(model.model.train().eval()(x)["logits"], before)


def test_weights_that_the_model_no_longer_has_are_named():
    model = bayesian(tiny_vit())
    model.model.classifier = nn.Linear(16, 3)
    with pytest.raises(ValueError, match=r"over classifier\.weight, classifier\.bias, which the model no longer has"):
        model.predict(pixel_values=torch.randn(2, 1, 8, 8), num_samples=1)
    with pytest.raises(ValueError, match="no longer has"), model.sample(0):
        pass


def test_weights_in_a_scripted_module_are_refused():
    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.jit.script(nn.Linear(4, 3))

        def forward(self, x):
            return {"logits": self.part(x)}

    with pytest.raises(ValueError, match=r"a module that torch\.jit has compiled"):
        bayesian(Scripted()).predict(x=torch.ones(2, 4), num_samples=1)


def test_a_merged_adapter_is_refused():
    net = get_peft_model(tiny_vit(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model = bayesian(net)
    pixels = {"pixel_values": torch.randn(2, 1, 8, 8)}
    before = model.predict(**pixels, num_samples=2, seed=0).probs
    net.merge_adapter()
    with pytest.raises(ValueError, match=r"The adapter is merged into its base.*unmerge_adapter"):
        model.predict(**pixels, num_samples=2, seed=0)
    net.unmerge_adapter()
    torch.testing.assert_close(model.predict(**pixels, num_samples=2, seed=0).probs, before)


def test_a_twin_is_gone_with_its_last_user():
    """Without waiting for the garbage collector, or memory would fill up."""
    model = bayesian(tiny_vit())
    gc.collect()
    gc.disable()
    try:
        with model.sample(0) as drawn:
            alive = weakref.ref(drawn)
        del drawn
        assert alive() is None
    finally:
        gc.enable()


def forecasts(model, batch):
    """What a forecaster says, sample paths of those that model a distribution."""
    if hasattr(model, "distribution_output") or hasattr(model, "parameter_projection"):
        return generated_paths(model, batch, 3, seed=0)
    with torch.no_grad():
        outputs = model(**batch)
    return next(outputs[name] for name in ("prediction_outputs", "full_predictions") if name in outputs)


FORECASTERS = {
    "koopa": lambda: (tiny_koopa(), {"past_values": torch.ones(2, CONTEXT, 2).cumsum(1)}),
    "patchtst": lambda: model_and_batch("patchtst", 2),
    "patchtst-mse": lambda: (tiny_patchtst(), {"past_values": torch.ones(2, CONTEXT, 2).cumsum(1)}),
    "mixer": lambda: model_and_batch("mixer", 2),
    "transformer": lambda: model_and_batch("transformer", 2),
    "informer": lambda: model_and_batch("informer", 2),
    "autoformer": lambda: model_and_batch("autoformer", 2),
    "timesfm": lambda: architectures.build("TimesFmModelForPrediction"),
    "timesfm2_5": lambda: architectures.build("TimesFm2_5ModelForPrediction"),
}


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_draw_of_a_forecaster_is_a_fresh_model(name):
    net, batch = FORECASTERS[name]()
    model = bayesian(net)
    mean = forecasts(net, batch)
    for draw in range(DRAWS):
        twins = Twins(net, model.posterior, model._kept)
        expected = forecasts(fresh_model(model.posterior, lambda: FORECASTERS[name]()[0], draw_seed(0, draw)), batch)
        assert torch.equal(forecasts(twins.drawn(draw_seed(0, draw), 1.0), batch), expected)
        assert not torch.allclose(expected, mean)
    assert torch.equal(forecasts(net, batch), mean)


def test_every_forecaster_of_transformers_is_among_them():
    known = {type(FORECASTERS[name]()[0]).__name__ for name in FORECASTERS}
    assert {name for name in dir(transformers) if name.endswith("ForPrediction")} <= known


def test_every_classifier_of_transformers_is_built_or_known_not_to_be():
    types = {kind for kind in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES}
    assert types - set(architectures.CLASSIFIERS) == {"dinat", "pp_lcnet", "shieldgemma2", "timm_wrapper"}


@pytest.mark.parametrize("hooked", ["attach", "forward", "compiled", "layer"])
def test_models_that_others_have_wrapped(hooked):
    """As accelerate does it for a device map and for mixed precision, and torch.compile."""
    pixels = {"pixel_values": torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))}
    expected = bayesian(tiny_vit()).predict(**pixels, num_samples=3, seed=0).probs
    net, compiled = tiny_vit(), []

    def backend(graph, example):
        compiled.append(graph)
        return graph.forward

    if hooked == "attach":
        attach_align_device_hook(net, execution_device="cpu", offload=False)
    elif hooked == "forward":
        net.forward = MethodType(convert_outputs_to_fp32(net.forward.__func__), net)
    elif hooked == "compiled":
        net = torch.compile(net, backend=backend)
    else:
        net.vit.layers[0].compile(backend=backend)
    model = bayesian(net)
    for _ in range(2):
        torch.testing.assert_close(model.predict(**pixels, num_samples=3, seed=0).probs, expected)
    assert len(compiled) == (hooked in ("compiled", "layer"))  # once for all draws
