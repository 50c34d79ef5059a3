"""The prior that a training starts from."""

import torch

from hf_scorevi import PosteriorConfig
from hf_scorevi.posterior import Posterior
from hf_scorevi.training.prior import initial_prior


def test_where_a_process_holds_a_part_of_the_weights_the_prior_is_that_of_the_whole(monkeypatch):
    """After `load_model` under FSDP2: all processes must pull the mean alike."""
    model = torch.nn.Linear(3, 4)
    config = PosteriorConfig()
    posterior = Posterior.initialise(dict(model.named_parameters()), config)
    whole = initial_prior(model, posterior, config).std
    squares = torch.stack([p.detach().double().square().sum() for p in posterior.params])
    posterior.params[0] = posterior.params[0][:1]
    monkeypatch.setattr(posterior.shards, "total", lambda parts: squares)  # what the processes' parts add up to
    assert torch.allclose(torch.tensor(initial_prior(model, posterior, config).std), torch.tensor(whole))
