"""The figures of a training log."""

from unittest.mock import Mock

import pytest
import torch

from hf_scorevi import PosteriorConfig
from hf_scorevi.posterior import GaussianPrior, Posterior
from hf_scorevi.training.figures import training_figures
from hf_scorevi.training.likelihood import Likelihood


@pytest.mark.parametrize("rows", [4, 1])
def test_shrinkage_is_averaged_over_whole_weights_whatever_part_of_them_a_process_holds(rows):
    params = {"matrix": torch.nn.Parameter(torch.ones(4, 3)), "bias": torch.nn.Parameter(torch.ones(2))}
    posterior = Posterior.initialise(params, PosteriorConfig(family="diagonal"))
    posterior.params[0] = posterior.params[0][:rows]  # as FSDP2 leaves of it, while `shards` knows the whole
    prior = GaussianPrior([torch.zeros(()), torch.zeros(())], [1.0, 1.0], learn_std=False)
    update = Mock(**{"shrinkage.return_value": torch.tensor([0.5, 0.0], dtype=torch.float64)})
    figures = training_figures(1.0, posterior, prior, Likelihood(10, 1.0), update)
    assert figures["shrinkage_weight"] == pytest.approx(12 * 0.5 / 14)
