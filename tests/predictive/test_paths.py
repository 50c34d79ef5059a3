import pytest
import torch

from hf_scorevi.predictive import generated_paths
from tests.forecasters import (
    CONTEXT,
    tiny_autoformer,
    tiny_informer,
    tiny_mixer,
    tiny_patchtst,
    tiny_transformer,
)

LAGS, HORIZON = 3, 2
PATCHED = {"patchtst": tiny_patchtst, "mixer": tiny_mixer}
AUTOREGRESSIVE = {"transformer": tiny_transformer, "informer": tiny_informer, "autoformer": tiny_autoformer}


def model_and_batch(name, channels):
    torch.manual_seed(1)
    if name in PATCHED:
        model = PATCHED[name](
            channels, loss="nll", distribution_output="normal", num_parallel_samples=7, prediction_length=HORIZON
        )
        return model.eval(), {"past_values": torch.randn(4, CONTEXT, channels)}
    past = torch.randn(4, CONTEXT + LAGS, *([channels] if channels > 1 else []))
    return AUTOREGRESSIVE[name](channels, prediction_length=HORIZON).eval(), {
        "past_values": past,
        "past_time_features": torch.rand(4, CONTEXT + LAGS, 4),
        "future_time_features": torch.rand(4, HORIZON, 4),
        "past_observed_mask": torch.ones_like(past),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*PATCHED, *AUTOREGRESSIVE])
def test_paths_depend_on_their_seed_alone(name, channels):
    model, batch = model_and_batch(name, channels)
    before = torch.get_rng_state()
    paths = generated_paths(model, batch, 5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert paths.shape == (5, 4, HORIZON, channels) and paths.isfinite().all()
    torch.randn(3)
    assert torch.equal(generated_paths(model, batch, 5, seed=3), paths)
    assert not torch.allclose(generated_paths(model, batch, 5, seed=4), paths)
    assert not torch.allclose(paths[0], paths[1])
    assert generated_paths(model, batch, None, seed=3).shape[0] == 7  # as the configuration says


@pytest.mark.parametrize("name", [*PATCHED, "transformer"])
def test_the_number_of_paths_is_put_back_even_after_an_error(name):
    model, batch = model_and_batch(name, 2)
    before = torch.get_rng_state()
    with pytest.raises(Exception):  # noqa: B017 - of whatever kind the model raises
        generated_paths(model, batch | {"past_values": torch.zeros(4, 2, 2)}, 5, seed=3)
    assert model.config.num_parallel_samples == 7
    assert getattr(model, "num_parallel_samples", 7) == 7
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", PATCHED)
def test_they_are_of_the_head_s_distribution(name):
    """Mean and variance of many, element by element, within their Monte-Carlo error."""
    model, batch = model_and_batch(name, 2)
    with torch.no_grad():
        outputs = model(**batch)
    distribution = model.distribution_output.distribution(outputs.prediction_outputs, outputs.loc, outputs.scale)
    paths, number = generated_paths(model, batch, 3000, seed=0), 3000
    z = (paths.mean(0) - distribution.mean) / distribution.variance.sqrt() * number**0.5
    assert z.abs().max() < 5 and 0.5 < z.std() < 1.5
    assert (paths.var(0) / distribution.variance - 1).abs().max() < 5 * (2 / number) ** 0.5


def test_counts_are_scaled_once():
    """The forward puts the scale of the window into the parameters of a negative binomial, in place."""
    model = tiny_patchtst(loss="nll", distribution_output="negative_binomial").eval()
    past = torch.poisson(torch.full((3, CONTEXT, 2), 20.0), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model(past_values=past)
    count, logits = outputs.prediction_outputs
    odds = logits.exp() * outputs.scale
    paths = generated_paths(model, {"past_values": past}, 2000, seed=0)
    error = (count * odds * (1 + odds) / 2000).sqrt()
    assert ((paths.mean(0) - count * odds).abs() < 5 * error).all()
