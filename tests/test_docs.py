"""What the documentation shows has to run."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import ViTImageProcessorPil

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.hub import StoredPosterior, save_posterior
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import arguments, images, tiny_vit

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


def test_the_page_on_predicting_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = images(12, channels=3)
    args = arguments(tmp_path / "run", max_steps=3, eval_num_samples=4)
    trainer = ScoreVITrainer(tiny_vit(num_channels=3), args, train_dataset=data)
    trainer.train()
    trainer.save_model(tmp_path / "user" / "repository")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "user" / "repository")
    Image.new("RGB", (20, 10)).save("cat.jpg")
    names: dict = {
        "BayesianModel": BayesianModel,
        "trainer": trainer,
        "data": data,
        "pixels": data.columns["pixel_values"],
        "held_out": images(12, channels=3, seed=1),
        "test_data": images(12, channels=3, seed=2),
    }
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "predicting.md").read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(compile(block, "predicting.md", "exec"), names)
    assert len(blocks) == 5 and names["found"].posterior_scale > 0
    assert names["output"].predictive.num_samples == 4 and len(names["measured"].labels) == 12
    assert names["model"].recalibration is not None and (tmp_path / "out" / "calibration.json").is_file()
