"""The page's blocks run, one after the other, on a table made here."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from hf_scorevi.models.koopa import KoopaForPrediction

PAGE = Path(__file__).parents[2] / "docs" / "forecasting.md"


def test_the_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    time, noise = np.arange(400), np.random.default_rng(0).normal(size=(400, 2))
    columns = {"load": 100 + 10 * np.sin(time / 4) + noise[:, 0], "wind": np.cos(time / 3) + 0.1 * noise[:, 1]}
    pd.DataFrame({"date": pd.date_range("2024-01-01", periods=400, freq="h")} | columns).to_csv(
        "load.csv", index=False
    )
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("\n## Data\n") : text.index("\n## The training program\n")]
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)
    assert len(blocks) == 5 and isinstance(names["trainer"].model, KoopaForPrediction)
    assert names["trainer"].likelihood.num_data == (280 - 48) * 2
    assert names["lower"].shape == (1, 24, 2) and bool((names["lower"] < names["upper"]).all())
    assert names["out"].mean.shape == (
        len(names["windows_for"](names["config"], names["series"][names["test"]])),
        24,
        2,
    )
    assert all((tmp_path / f"{name}.png").is_file() for name in ("forecast", "pit", "coverage"))
    assert 50 < float(names["forecast"].mean[..., 0].mean()) < 150
