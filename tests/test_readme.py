"""The README's first block of Python is what people paste: it has to run."""

import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import transformers
from PIL import Image

import hf_scorevi
from tests.tiny_models import arguments, tiny_vit

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def small_hub(monkeypatch, tmp_path):
    """The model and the data that the block names, at a size for tests; everything else in it is real."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    split = datasets.Dataset.from_dict({"image": images, "label": [i % 3 for i in range(12)]})
    data = datasets.DatasetDict(train=split, test=split)
    processor = transformers.ViTImageProcessorPil(size={"height": 8, "width": 8})
    tiny_vit(num_channels=3).base_model.save_pretrained(tmp_path / "body")
    load = transformers.AutoModelForImageClassification.from_pretrained

    monkeypatch.setattr(datasets, "load_dataset", lambda name: data)
    monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", lambda name: processor)
    monkeypatch.setattr(
        transformers.AutoModelForImageClassification, "from_pretrained", lambda name, **k: load(tmp_path / "body", **k)
    )
    original = hf_scorevi.ScoreVITrainingArguments

    def on_cpu(*args, **kwargs):
        return original(*args, use_cpu=True, report_to="none", **kwargs)

    monkeypatch.setattr(hf_scorevi, "ScoreVITrainingArguments", on_cpu)
    monkeypatch.chdir(tmp_path)


def test_the_first_block_runs(small_hub):
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL).group(1)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["metrics"]["eval_nll"] > 0
    assert names["out"].probs.shape[1] == 37
    assert Path("out/posterior.safetensors").is_file()


def test_the_block_on_forecasts_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "windows_for" in block]
    time = np.arange(400)[:, None]
    table = 10 + np.sin(time / np.array([4.0, 7.0])) + 0.1 * np.random.default_rng(0).normal(size=(400, 2))
    names: dict = {"table": table, "args": arguments(tmp_path / "run", max_steps=5)}
    exec(compile(block, "README.md", "exec"), names)
    assert names["out"].mean.shape == (1, 48, 2)
    assert names["out"].paths.shape == (32, 1, 48, 2)
    assert 5 < float(np.mean(names["forecaster"](table)["mean"])) < 15
