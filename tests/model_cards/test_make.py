import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard

from hf_scorevi.hub import make_card
from model_cards import make

CARDS = Path(make.__file__).parent


@pytest.mark.parametrize("name", make.RUNS)
def test_the_cards_are_what_is_written_from_the_files_beside_them(name, tmp_path):
    shutil.copytree(CARDS / name, tmp_path / name)
    card = (CARDS / name / "README.md").read_text(encoding="utf-8")
    assert make_card(tmp_path / name, existing=card) == card
    (evaluation,) = json.loads((CARDS / name / "calibration.json").read_text())["evaluations"]
    results = ModelCard(card).data.eval_results
    assert {(r.metric_args["weights"], r.metric_type): r.metric_value for r in results} == {
        (row, metric): value for row, own in evaluation["metrics"].items() for metric, value in own.items()
    }
    diagram = "coverage.png" if (CARDS / name / "forecast.png").is_file() else "reliability.png"
    for picture in (diagram, "posterior.png"):
        assert f"]({picture})" in card and (CARDS / name / picture).is_file()


def test_a_forecaster_leaves_its_card_and_a_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "ett_rows", lambda length: (300, 0, 60))
    steps = 360
    waves = np.sin(2 * np.pi * np.arange(steps)[:, None] / [24, 12, 8]) + np.random.default_rng(0).normal(
        size=(steps, 3)
    )
    index = pd.date_range("2016-07-01", periods=steps, freq="h", name="date")
    pd.DataFrame(waves[:, [0, 1, 2]], index, ["HUFL", "MULL", "OT"]).to_csv(tmp_path / "ETTh1.csv")
    options = SimpleNamespace(
        data_dir=tmp_path, epochs=0.01, output_dir=tmp_path / "out", cards_dir=tmp_path / "cards"
    )
    make.make("koopa-etth1-bayesian", options)
    card = ModelCard.load(tmp_path / "cards" / "koopa-etth1-bayesian" / "README.md")
    assert "](forecast.png)" in card.text and "](coverage.png)" in card.text
    assert card.data.pipeline_tag == "time-series-forecasting"
    assert (tmp_path / "cards" / "koopa-etth1-bayesian" / "forecast.png").is_file()


def test_a_run_leaves_its_checkpoint_and_its_card(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        f"{kind}_{part}": random.integers(0, 256, (40, 28, 28), dtype=np.uint8) if kind == "x" else np.arange(40) % 10
        for kind in "xy"
        for part in ("train", "test")
    }
    np.savez(tmp_path / "fashion_mnist.npz", **arrays)
    options = SimpleNamespace(data_dir=tmp_path, epochs=1, output_dir=tmp_path / "out", cards_dir=tmp_path / "cards")
    make.make("resnet-fashion-mnist-bayesian", options)
    written = {path.name for path in (tmp_path / "cards" / "resnet-fashion-mnist-bayesian").iterdir()}
    assert written == {
        "README.md", "calibration.json", "config.json", "posterior.png", "posterior_config.json", "reliability.png",
    }  # fmt: skip
    card = ModelCard.load(tmp_path / "cards" / "resnet-fashion-mnist-bayesian" / "README.md")
    assert "python model_cards/make.py --only resnet-fashion-mnist-bayesian" in card.text
    assert card.data.datasets == ["zalando-datasets/fashion_mnist"]
    assert (tmp_path / "out" / "resnet-fashion-mnist-bayesian" / "posterior.safetensors").is_file()
