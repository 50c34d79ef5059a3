"""The page's blocks run, one after the other, on a model that was really trained."""

import re
from pathlib import Path

import pytest
import torch

from hf_scorevi import BayesianModel, ScoreVITrainer
from tests.tiny_models import arguments, images, tiny_vit

PAGE = Path(__file__).parents[2] / "docs" / "uncertainty_uses.md"


@pytest.fixture
def names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path / "out", max_steps=3), train_dataset=images())
    trainer.train()
    trainer.save_model("out")

    class Data:
        def __init__(self, seed, shift=0.0):
            columns = images(n=30, seed=seed).columns
            self.pixel_values, self.labels = columns["pixel_values"] + shift, columns["labels"]

    return {
        "model": BayesianModel.from_pretrained("out"),
        "test": Data(1),
        "others": Data(2, shift=-5.0),
        "pool": Data(3),
    }


def test_the_blocks_run(names, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    for picture in ("risk_coverage.png", "confidence.png", "entropy.png"):
        assert Path(picture).stat().st_size > 5_000
    assert "auroc" in capsys.readouterr().out
    for batch in ("best", "spread", "together"):
        assert names[batch].unique().numel() == 10
    assert names["suspicious"].dtype == torch.bool
