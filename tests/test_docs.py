"""What the documentation shows has to run."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_scorevi import PosteriorConfig
from hf_scorevi.hub import StoredPosterior, save_posterior
from hf_scorevi.posterior import Posterior, select_parameters
from tests.models import tiny_vit

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("family", ["isotropic", "diagonal"])
def test_a_posterior_is_read_with_safetensors_alone(family, tmp_path, monkeypatch):
    model = tiny_vit(hidden_size=64, intermediate_size=128)
    config = PosteriorConfig(family=family, init_std=0.3)
    save = StoredPosterior(config, num_data=24, temperature=0.1)
    posterior = Posterior.initialise(select_parameters(model), config)
    model.save_pretrained(tmp_path)
    save_posterior(tmp_path, model, posterior, save)

    block = re.search(r"```python\n(.*?)```", (DOCS / "checkpoint.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict = {}
    exec(compile(block.group(1), "checkpoint.md", "exec"), names)
    mean, draw = load_file("model.safetensors"), names["draw"]
    assert draw.keys() == mean.keys()
    key = "vit.encoder.layer.0.intermediate.dense.weight"
    standardised = (draw[key] - mean[key]) * posterior.precision["vit.layers.0.mlp.fc1.weight"].sqrt()
    assert standardised.std().item() == pytest.approx(1, abs=4 / (2 * standardised.numel()) ** 0.5)
