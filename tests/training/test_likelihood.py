import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset
from transformers import (
    PatchTSTConfig,
    PatchTSTForPrediction,
    TimesFmConfig,
    TimesFmModelForPrediction,
    ViTConfig,
    ViTForMaskedImageModeling,
)

from hf_scorevi import PosteriorConfig
from hf_scorevi.heads import find_head
from hf_scorevi.training import likelihood as likelihoods
from tests.tiny_models import LinearRegression, images, tiny_vit


def resolve_likelihood(model, config, data, num_weights):
    """As a trainer does it."""
    head = find_head(model, config.noise_variance != "auto")
    num_data = config.num_data or likelihoods.count_terms(head, data, lambda rows: iter(()))
    return likelihoods.resolve_likelihood(head, config, num_data, num_weights)


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


def test_a_classifier_counts_its_images():
    likelihood = resolve_likelihood(tiny_vit(), PosteriorConfig(temperature=0.5), images(24), num_weights=10)
    assert (likelihood.num_data, likelihood.kind, likelihood.loss_scale) == (24, "nll", 1.0)
    assert likelihood.weight == 48


def test_num_data_overrides():
    assert resolve_likelihood(tiny_vit(), PosteriorConfig(num_data=7), images(24), 1).num_data == 7


def test_a_multi_label_loss_is_a_mean_over_labels_too():
    model = tiny_vit(problem_type="multi_label_classification")
    assert resolve_likelihood(model, PosteriorConfig(), images(24), 1).num_data == 24 * 3


def test_a_regression_head_learns_its_noise_or_takes_it():
    model = tiny_vit(num_labels=1)
    likelihood = resolve_likelihood(model, PosteriorConfig(), images(24), 1)
    assert likelihood.kind == "gaussian"
    assert likelihood.learns_noise
    assert likelihood.predictive_noise is None
    likelihood = resolve_likelihood(model, PosteriorConfig(noise_variance=0.25, temperature=1), images(24), 1)
    assert (likelihood.kind, likelihood.loss_scale, likelihood.weight) == ("gaussian", 2.0, 48)


def test_the_loss_scale_is_the_gaussian_likelihoods():
    """−log N(y; f, σ²) and loss_scale · (y − f)² differ by a constant."""
    model = LinearRegression(2, 1.0)
    likelihood = resolve_likelihood(model, PosteriorConfig(noise_variance=0.3), images(5), 1)
    y, f = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 1.0])
    nll = -torch.distributions.Normal(f, 0.3**0.5).log_prob(y)
    difference = nll - likelihood.loss_scale * (y - f) ** 2
    assert difference[0].item() == pytest.approx(difference[1].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("model", "config", "data", "message"),
    [
        (tiny_vit(), PosteriorConfig(noise_variance=1.0), images(), "Leave noise_variance out"),
        (tiny_vit(), PosteriorConfig(), None, "number of data is unknown.*num_data="),
        (tiny_vit(), PosteriorConfig(), Stream(), "number of data is unknown.*num_data="),
        (tiny_vit(), PosteriorConfig(), images(0), "training set is empty"),
        (
            ViTForMaskedImageModeling(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)),
            PosteriorConfig(),
            images(),
            "ViTForMaskedImageModeling is not known to be the mean of negative log-likelihoods",
        ),
        (
            PatchTSTForPrediction(PatchTSTConfig(loss="nll")),
            PosteriorConfig(noise_variance="channel"),
            images(),
            "Leave noise_variance out",
        ),
        (tiny_vit(num_labels=1), PosteriorConfig(noise_variance="window"), images(), "no scale of its windows"),
        (
            TimesFmModelForPrediction(TimesFmConfig(num_hidden_layers=1, hidden_size=16, intermediate_size=16)),
            PosteriorConfig(),
            images(),
            "squared error plus quantile losses.*Koopa",
        ),
    ],
)
def test_an_unknown_scale_is_refused(model: nn.Module, config, data, message):
    with pytest.raises(ValueError, match=message):
        resolve_likelihood(model, config, data, 1)
