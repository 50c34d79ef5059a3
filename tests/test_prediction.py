import pytest
import torch
from torch import nn
from transformers import ViTForImageClassification

from benchmarks.evaluation.cost_meters import StorageMeter
from hf_scorevi import BayesianModel, PosteriorConfig, PredictiveOutput, RegressionOutput, ScoreVITrainer
from hf_scorevi.hub import StoredPosterior
from hf_scorevi.posterior import Posterior, draw_seed, select_parameters

from .tiny_models import Examples, images, tiny_resnet, tiny_vit

DATA = images(23)


def bayesian(model: nn.Module, target="trainable", **config) -> BayesianModel:
    config = PosteriorConfig(target=target, **config)
    posterior = Posterior.initialise(select_parameters(model, config.target), config)
    for _, _, precision in posterior.state():
        precision.fill_(20.0)  # a standard deviation that shows
    return BayesianModel(model, posterior, StoredPosterior(config, 23, 1.0))


@pytest.fixture
def model() -> BayesianModel:
    return bayesian(tiny_vit())


def close(a, b, tolerance=1e-5):
    assert type(a) is type(b)
    for name, value in vars(a).items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, getattr(b, name), atol=tolerance, rtol=tolerance)
        else:
            assert value == getattr(b, name)


def test_a_data_set_is_predicted_as_one_batch_would_be(model):
    whole = model.predict(pixel_values=DATA.columns["pixel_values"], num_samples=5, seed=3, return_logits=True)
    asked = {"num_samples": 5, "seed": 3, "return_samples": True, "return_logits": True}
    close(model.predict_dataset(DATA, batch_size=4, **asked), whole)
    assert whole.logits.shape == whole.samples.shape == (5, 23, 3)
    assert whole.logits.var(0).min() > 0


def test_batches_share_draws_whatever_their_groups(model, monkeypatch):
    expected = model.predict_dataset(DATA, batch_size=4, num_samples=3, seed=0)
    for bytes_of_group in (1, 4 * 64 * 4, 3 * 4 * 64 * 4):
        monkeypatch.setattr("hf_scorevi.prediction.GROUP_BYTES", bytes_of_group)
        close(model.predict_dataset(DATA, batch_size=4, num_samples=3, seed=0), expected, 0)


def test_draws_are_made_once_a_group(model, monkeypatch):
    seeds = []
    draw_ = Posterior.draw_
    monkeypatch.setattr(
        Posterior, "draw_", lambda self, weights, seed, scale: seeds.append(seed) or draw_(self, weights, seed, scale)
    )
    model.predict_dataset(DATA, batch_size=2, num_samples=3, seed=7)
    assert seeds == [draw_seed(7, draw) for draw in range(3)]


def test_draws_may_be_fresh_for_every_batch(model):
    twice = Examples(pixel_values=DATA.columns["pixel_values"][:4].repeat(2, 1, 1, 1))
    same = model.predict_dataset(twice, batch_size=4, num_samples=2, seed=0).probs
    assert torch.equal(same[:4], same[4:])
    fresh = model.predict_dataset(twice, batch_size=4, num_samples=2, seed=0, fresh_draws=True).probs
    assert not torch.allclose(fresh[:4], fresh[4:], atol=1e-3)
    assert torch.equal(
        fresh, model.predict_dataset(twice, batch_size=4, num_samples=2, seed=0, fresh_draws=True).probs
    )


def test_the_mean_alone_is_the_model_s_own_prediction(model):
    out = model.predict_dataset(DATA, use_mean=True, return_samples=True)
    with torch.no_grad():
        logits = model.model(DATA.columns["pixel_values"]).logits
    torch.testing.assert_close(out.probs, logits.softmax(-1))
    assert out.num_samples == 1 and out.logit_std.max() == 0 and out.mutual_information.max() < 1e-6


def test_labels_and_unknown_columns_are_left_out(model):
    data = Examples(**DATA.columns, number=torch.arange(23))
    close(model.predict_dataset(data, num_samples=2, seed=0), model.predict_dataset(DATA, num_samples=2, seed=0), 0)


def test_an_empty_data_set_is_an_error(model):
    with pytest.raises(ValueError, match="data set is empty"):
        model.predict_dataset(Examples(pixel_values=torch.zeros(0, 1, 8, 8)))


@pytest.mark.parametrize("build", [tiny_vit, tiny_resnet])
@pytest.mark.parametrize("target", ["trainable", ["classifier*"]])
def test_several_draws_in_one_pass_are_those_of_single_passes(build, target):
    model = bayesian(build(), target)
    single = model.predict_dataset(DATA, batch_size=8, num_samples=5, seed=1, return_logits=True)
    for at_once in (2, 5, 8):
        together = model.predict_dataset(
            DATA, batch_size=8, num_samples=5, seed=1, return_logits=True, draws_at_once=at_once
        )
        close(together, single)


def test_of_a_head_s_draws_the_body_is_computed_once():
    model = bayesian(tiny_vit(), ["classifier*"])
    shapes = []
    body = model.model.vit.encoder if hasattr(model.model.vit, "encoder") else model.model.vit.layers[0]
    body.register_forward_hook(lambda module, inputs, output: shapes.append(type(output)))
    model.predict(**{"pixel_values": DATA.columns["pixel_values"]}, num_samples=6, seed=0, draws_at_once=6)
    assert len(shapes) == 1


def test_the_weights_are_the_mean_again_after_any_prediction(model):
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    model.predict_dataset(DATA, num_samples=2)
    model.predict_dataset(DATA, num_samples=2, draws_at_once=2)
    with pytest.raises(Exception, match=r"dtype|pixel_values"):
        model.predict(num_samples=2)
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_batch_norm_s_own_statistics_go_with_single_draws():
    model = bayesian(tiny_resnet())
    batches = [{"pixel_values": DATA.columns["pixel_values"]}]
    each = model.predict(**batches[0], num_samples=3, seed=0, batch_norm_batches=batches)
    shared = model.predict(**batches[0], num_samples=3, seed=0)
    assert not torch.allclose(each.probs, shared.probs, atol=1e-3)
    asked = {"num_samples": 3, "seed": 0, "return_samples": True, "batch_norm_batches": batches}
    close(model.predict_dataset(DATA, batch_size=5, **asked), each)
    with pytest.raises(ValueError, match="leave out draws_at_once"):
        model.predict(**batches[0], batch_norm_batches=batches, draws_at_once=2)


@pytest.mark.parametrize("arguments", [{"num_samples": 0}, {"draws_at_once": 0}])
def test_counts_below_one_are_refused(model, arguments):
    with pytest.raises(ValueError, match="at least 1"):
        model.predict(pixel_values=DATA.columns["pixel_values"], **arguments)


def test_a_regression_has_both_parts_of_its_variance():
    model = bayesian(tiny_vit(num_labels=2, problem_type="regression"), noise_variance=0.25)
    pixels = DATA.columns["pixel_values"]
    out = model.predict(pixel_values=pixels, num_samples=6, seed=0, quantile_levels=(0.1, 0.9))
    assert isinstance(out, RegressionOutput) and out.quantiles.shape == (2, 23, 2)
    draws = []
    for draw in range(6):
        with model.posterior.sampled(draw_seed(0, draw)), torch.no_grad():
            draws.append(model.model(pixels).logits)
    torch.testing.assert_close(out.samples, torch.stack(draws))
    torch.testing.assert_close(out.epistemic_variance, torch.stack(draws).var(0))
    assert (out.aleatoric_variance == 0.25).all()
    close(model.predict_dataset(DATA, num_samples=6, seed=0, quantile_levels=(0.1, 0.9), return_samples=True), out)


def test_independent_labels_have_probabilities_of_their_own():
    model = bayesian(tiny_vit(problem_type="multi_label_classification"))
    out = model.predict(pixel_values=DATA.columns["pixel_values"], num_samples=4, seed=0, return_logits=True)
    torch.testing.assert_close(out.probs, out.logits.sigmoid().mean(0))
    assert out.entropy.shape == (23, 3)
    assert not torch.allclose(out.probs.sum(-1), torch.ones(23), atol=0.05)


def test_a_model_of_neither_kind_is_refused():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return {"logits": x @ self.weight}

    with pytest.raises(TypeError, match="knows no noise variance"):
        bayesian(Plain()).predict(x=torch.ones(3, 2))


def test_called_like_a_model_its_softmax_is_the_predictive(model):
    pixels = DATA.columns["pixel_values"]
    model.num_samples, model.seed = 4, 9
    expected = model.predict(pixel_values=pixels, num_samples=4, seed=9).probs
    torch.testing.assert_close(model(pixel_values=pixels).logits.softmax(-1), expected)
    labels = bayesian(tiny_vit(problem_type="multi_label_classification"))
    expected = labels.predict(pixel_values=pixels, num_samples=16, seed=0).probs
    torch.testing.assert_close(labels(pixel_values=pixels)["logits"].sigmoid(), expected)
    regression = bayesian(tiny_vit(num_labels=1), noise_variance=1.0)
    expected = regression.predict(pixel_values=pixels, num_samples=16, seed=0).mean
    torch.testing.assert_close(regression(pixel_values=pixels).logits, expected)


def test_a_prediction_streams():
    """With neither samples nor logits kept, more draws take no more memory."""
    model = bayesian(ViTForImageClassification(tiny_vit(num_labels=1000).config))
    pixels = torch.zeros(64, 1, 8, 8)

    def kept(num_samples: int, **asked) -> int:
        out = model.predict(pixel_values=pixels, num_samples=num_samples, seed=0, **asked)
        return sum(value.nbytes for value in vars(out).values() if isinstance(value, torch.Tensor))

    assert kept(2, return_samples=False) == kept(9, return_samples=False)
    assert kept(9) - kept(2) == 7 * 64 * 1000 * 4


def test_a_trained_model_predicts_what_its_trainer_does(tmp_path):
    from .tiny_models import arguments

    args = arguments(tmp_path, max_steps=4, eval_num_samples=3, per_device_eval_batch_size=8)
    trainer = ScoreVITrainer(tiny_vit(), args, train_dataset=DATA)
    trainer.train()
    trainer.save_model(tmp_path / "out")
    expected = trainer.predict(DATA).predictions
    out = BayesianModel.from_pretrained(tmp_path / "out").predict_dataset(DATA, num_samples=3, seed=args.seed)
    assert isinstance(out, PredictiveOutput)
    torch.testing.assert_close(out.log_probs, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_a_draw_costs_one_copy_of_the_weights():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList(nn.Parameter(torch.zeros(1 << 21)) for _ in range(16))
            self.head = nn.Linear(2, 3)

        def forward(self, x):
            return {"logits": self.head(x)}

    with StorageMeter() as meter:
        model = bayesian(Wide())
        before = meter.peak = meter.allocated
        model.predict(x=torch.zeros(1, 2), num_samples=2, seed=0)
    copy = sum(p.nbytes for p in model.model.parameters())
    noise = 4 * (1 << 22)  # a bucket of it at a time, and what it is made of
    assert copy < meter.peak - before < copy + 2 * noise + 1e6
