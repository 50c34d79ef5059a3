import pytest
import torch

from hf_scorevi import PosteriorConfig
from hf_scorevi.hub import StoredPosterior, save_posterior
from hf_scorevi.posterior import FAMILIES, Posterior, select_parameters
from tests.tiny_models import tiny_vit


@pytest.fixture(params=sorted(FAMILIES))
def saved(tmp_path, request):
    """A model, its posterior, and the folder that holds both."""
    model = tiny_vit()
    config = PosteriorConfig(family=request.param, exclude=["layernorm"])
    posterior = Posterior.initialise(select_parameters(model, exclude=config.exclude), config)
    for i, (_, _, value) in enumerate(posterior.state()):
        value.mul_(1 + torch.rand(value.shape, generator=torch.Generator().manual_seed(i)))
    model.save_pretrained(tmp_path)
    save_posterior(tmp_path, model, posterior, StoredPosterior(config, num_data=50, temperature=0.1))
    return model, posterior, tmp_path
