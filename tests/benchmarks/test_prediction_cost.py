"""The benchmark of predictions' cost, with a tiny model."""

import json
from pathlib import Path

import pytest

from benchmarks import prediction_cost

TINY = ["--quick", "--device", "cpu", "--image-size", "32", "--models", "vit_b16", "--batch-size", "2"]


@pytest.mark.parametrize("draws_at_once", ["1", "4"])
def test_it_measures_time_and_memory(tmp_path: Path, draws_at_once: str) -> None:
    argv = ["--batches", "1", "--repeats", "1", "--num-samples", "4", "--draws-at-once", draws_at_once]
    found = prediction_cost.main([*TINY, *argv, "--output", str(tmp_path / "cost.json")])
    assert json.loads((tmp_path / "cost.json").read_text()) == json.loads(json.dumps(found))
    (own,) = found["models"].values()
    assert own["time_ratio"] == own["seconds"]["predicted"] / own["seconds"]["plain"] > 0
    # Each draw's own weights, and the noise, which of so small a model covers all weights at once.
    held = int(draws_at_once)
    assert 0.9 < own["peak_copies"] - held < 1.5
