"""`BayesianModel.forecast`, and `predict_dataset` of forecasters."""

import pytest
import torch
from scipy.stats import norm

from hf_scorevi import BayesianModel, ForecastOutput
from tests.forecasters import CONTEXT, HORIZON, bayesian, tiny_koopa, tiny_patchtst, tiny_transformer
from tests.tiny_models import Examples, tiny_vit

WINDOWS, CHANNELS, DRAWS = 3, 2, 4
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
GAUSSIAN, SAMPLED = ("koopa", "koopa-window", "patchtst"), ("patchtst-nll", "transformer")
WINDOW_NOISE = {"factor": [[0.1 * (h + 1)] for h in range(HORIZON)], "floor": [0.05, 0.5]}


def model_and_inputs(name: str) -> tuple[BayesianModel, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([[[0.5]], [[1.0]], [[2.0]]])
    inputs = {"past_values": scale * torch.randn(WINDOWS, CONTEXT, CHANNELS, generator=generator)}
    if name == "patchtst-nll":
        head = {"loss": "nll", "distribution_output": "normal", "num_parallel_samples": 7}
        return bayesian(tiny_patchtst(**head), None), inputs
    if name == "transformer":
        past = torch.randn(WINDOWS, CONTEXT + 3, CHANNELS, generator=generator)
        return bayesian(tiny_transformer(), None), {
            "past_values": past,
            "past_observed_mask": torch.ones_like(past),
            "past_time_features": torch.rand(WINDOWS, CONTEXT + 3, 4, generator=generator),
            "future_time_features": torch.rand(WINDOWS, HORIZON, 4, generator=generator),
        }
    model = bayesian(tiny_patchtst() if name == "patchtst" else tiny_koopa(), [0.04, 0.25])
    if name == "koopa-window":
        model.stored.likelihood["window_noise"] = WINDOW_NOISE
    return model, inputs


def state(model: BayesianModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def same(a: ForecastOutput, b: ForecastOutput) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.examples_first().values(), b.examples_first().values(), strict=True)
    )


@pytest.mark.parametrize("name", [*GAUSSIAN, *SAMPLED])
def test_shapes_seeds_and_what_is_left_behind(name):
    model, inputs = model_and_inputs(name)
    before, random_state = state(model), torch.get_rng_state()
    out = model.forecast(**inputs, num_samples=DRAWS, seed=3)
    shape = (WINDOWS, HORIZON, CHANNELS)
    assert isinstance(out, ForecastOutput) and out.num_samples == DRAWS
    for field in ("mean", "epistemic_variance", "aleatoric_variance", "variance"):
        assert getattr(out, field).shape == shape and getattr(out, field).isfinite().all()
    assert out.quantile_levels == LEVELS and out.quantiles.shape == (5, *shape)
    assert (out.quantiles.diff(dim=0) >= 0).all()
    assert out.samples.shape == (DRAWS, *shape)
    assert out.paths.shape == (DRAWS * (7 if name in SAMPLED else 1), *shape)
    assert (out.aleatoric_variance > 0).all() and (out.epistemic_variance > 0).any()
    torch.testing.assert_close(out.mean, out.samples.mean(0))
    assert same(model.forecast(**inputs, num_samples=DRAWS, seed=3), out)
    other = model.forecast(**inputs, num_samples=DRAWS, seed=4)
    assert not torch.allclose(other.mean, out.mean) and not torch.allclose(other.paths, out.paths)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[key]) for key, value in state(model).items())


@pytest.mark.parametrize("name", ["koopa", *SAMPLED])
def test_a_data_set_has_the_same_draws_but_its_own_noise_in_each_batch(name):
    model, inputs = model_and_inputs(name)
    twice = Examples(**{key: torch.cat([value[:1], value[:1]]) for key, value in inputs.items()})
    asked = {"num_samples": DRAWS, "seed": 3, "paths_per_draw": 5, "return_samples": True}
    out = model.predict_dataset(twice, batch_size=1, **asked)
    assert out.paths.shape == (DRAWS * 5, 2, HORIZON, CHANNELS)
    assert not torch.isclose(out.paths[:, 0], out.paths[:, 1]).any()
    if name == "koopa":
        assert torch.equal(out.samples[:, 0], out.samples[:, 1])
    first = model.forecast(
        **{key: value[:1] for key, value in inputs.items()}, num_samples=DRAWS, seed=3, paths_per_draw=5
    )
    assert torch.equal(out.paths[:, :1], first.paths)
    assert same(model.predict_dataset(twice, batch_size=1, **asked), out)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_a_data_set_is_forecast_as_one_batch_would_be(name):
    model, inputs = model_and_inputs(name)
    whole = model.forecast(**inputs, num_samples=DRAWS, seed=3)
    out = model.predict_dataset(Examples(**inputs), batch_size=2, num_samples=DRAWS, seed=3, quantile_levels=LEVELS)
    assert out.paths is None and out.samples is None
    for field in ("mean", "epistemic_variance", "aleatoric_variance", "quantiles"):
        torch.testing.assert_close(getattr(out, field), getattr(whole, field), rtol=1e-5, atol=1e-5)


def test_noise_in_proportion_to_each_window():
    """s_h² (scale² + floor) with the scale of each window's past."""
    model, inputs = model_and_inputs("koopa-window")
    scale = inputs["past_values"].std(1, correction=0, keepdim=True)
    expected = torch.tensor(WINDOW_NOISE["factor"]) * (scale.square() + torch.tensor(WINDOW_NOISE["floor"]))
    out = model.forecast(**inputs, num_samples=DRAWS, seed=0)
    torch.testing.assert_close(out.aleatoric_variance, expected, rtol=1e-3, atol=0)  # of Koopa's small term in scale


def test_one_variance_for_each_channel():
    model, inputs = model_and_inputs("patchtst")
    out = model.forecast(**inputs, num_samples=DRAWS, seed=0)
    assert torch.equal(out.aleatoric_variance, torch.tensor([0.04, 0.25]).expand(WINDOWS, HORIZON, CHANNELS))


@pytest.mark.parametrize("name", GAUSSIAN)
def test_the_mean_alone_is_the_model_s_forecast_with_noise_around_it(name):
    model, inputs = model_and_inputs(name)
    with torch.no_grad():
        expected = model.model(**inputs).prediction_outputs
    out = model.forecast(**inputs, use_mean=True, seed=0)
    assert torch.equal(out.mean, expected) and out.num_samples == 1
    assert out.epistemic_variance.abs().max() == 0
    quantile = expected + norm.ppf(0.95) * out.aleatoric_variance.sqrt()
    torch.testing.assert_close(out.quantiles[-1], quantile, rtol=1e-4, atol=1e-4, check_dtype=False)


def test_the_mean_alone_of_a_density_is_the_head_s_distribution():
    model, inputs = model_and_inputs("patchtst-nll")
    with torch.no_grad():
        outputs = model.model(**inputs)
        distribution = model.model.distribution_output.distribution(
            outputs.prediction_outputs, outputs.loc, outputs.scale
        )
    out = model.forecast(**inputs, use_mean=True, seed=0, paths_per_draw=4000)
    assert ((out.mean - distribution.mean).abs() < 5 * (distribution.variance / 4000).sqrt()).all()
    torch.testing.assert_close(out.aleatoric_variance, distribution.variance, rtol=5 * (2 / 4000) ** 0.5, atol=0)
    assert out.epistemic_variance.abs().max() == 0


@pytest.mark.parametrize("name", GAUSSIAN)
def test_draws_that_share_a_pass_are_those_of_single_passes(name):
    model, inputs = model_and_inputs(name)
    single = model.forecast(**inputs, num_samples=5, seed=3)
    shared = model.forecast(**inputs, num_samples=5, seed=3, draws_at_once=2)
    for key, value in single.examples_first().items():
        torch.testing.assert_close(shared.examples_first()[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["koopa-window", "patchtst-nll"])
def test_paths_agree_with_quantiles_and_variances(name):
    """Element by element, within five Monte-Carlo errors."""
    model, inputs = model_and_inputs(name)
    out = model.forecast(**inputs, num_samples=DRAWS, seed=3, paths_per_draw=1000)
    number = len(out.paths)
    for level, quantile in zip(LEVELS, out.quantiles, strict=True):
        share = (out.paths <= quantile).float().mean(0)
        assert ((share - level).abs() < 5 * (level * (1 - level) / number) ** 0.5).all()
    # these paths are of the draws at hand, so their spread between draws is over S, not S − 1
    expected = out.epistemic_variance * (DRAWS - 1) / DRAWS + out.aleatoric_variance
    assert (out.paths.var(0) / expected - 1).abs().max() < 5 * (2 / number) ** 0.5
    assert (out.mean - out.paths.mean(0)).abs().max() < 5 * (expected.max() / number) ** 0.5


def test_intervals_are_pairs_of_quantiles():
    model, inputs = model_and_inputs("koopa")
    out = model.forecast(**inputs, num_samples=DRAWS, seed=0)
    for level, ends in ((0.9, (0, 4)), (0.5, (1, 3))):
        low, high = out.interval(level)
        assert torch.equal(low, out.quantiles[ends[0]]) and torch.equal(high, out.quantiles[ends[1]])
    with pytest.raises(ValueError, match=r"0\.8 reaches to the quantile 0\.1, .* ask for it in quantile_levels"):
        out.interval(0.8)
    low, high = model.forecast(**inputs, num_samples=2, seed=0, quantile_levels=(0.1, 0.9)).interval(0.8)
    assert (low < high).all()


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("koopa", {"quantile_levels": (0.5, 1.0)}, "between 0 and 1"),
        ("patchtst-nll", {"quantile_levels": (0.0,)}, "between 0 and 1"),
        ("koopa", {"num_samples": 0}, "num_samples must be at least 1"),
        ("koopa", {"past_values": torch.zeros(1, CONTEXT - 1, CHANNELS)}, f"context_length {CONTEXT}"),
        ("koopa", {"past_values": torch.zeros(1, CONTEXT, CHANNELS + 1)}, f"input_size {CHANNELS}"),
        ("patchtst", {"past_values": torch.zeros(1, CONTEXT - 4, CHANNELS)}, "sequence length"),
        ("patchtst-nll", {"draws_at_once": 2}, "leave out draws_at_once"),
        ("patchtst-nll", {"paths_per_draw": 1}, "paths_per_draw of two or more"),
    ],
)
def test_what_cannot_be_forecast_is_told_and_the_mean_stays(name, asked, message):
    model, inputs = model_and_inputs(name)
    before = state(model)
    with pytest.raises(ValueError, match=message):
        model.forecast(**inputs | {"num_samples": 2, "seed": 0} | asked)
    assert all(torch.equal(value, before[key]) for key, value in state(model).items())


def test_no_forecast_of_a_classifier_or_without_a_noise():
    with pytest.raises(ValueError, match=r"ViTForImageClassification is no forecaster; ask predict"):
        bayesian(tiny_vit(), None).forecast(pixel_values=torch.zeros(1, 1, 8, 8))
    model = bayesian(tiny_koopa(), None)
    with pytest.raises(ValueError, match="noise variance of this posterior is not known"):
        model.forecast(past_values=torch.zeros(1, CONTEXT, CHANNELS))
    model = bayesian(tiny_koopa(), [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="posterior is that of another model"):
        model.forecast(past_values=torch.zeros(1, CONTEXT, CHANNELS))
