import json

import numpy as np
import pytest
import torch

from examples import active_learning, ood_detection
from hf_scorevi import PredictiveOutput


def test_pool_and_test_are_disjoint_and_the_first_labels_are_balanced():
    pool, test, first = active_learning.split(2)
    assert len(pool) == 500
    assert len(pool) + len(test) == 896
    assert np.bincount(pool.labels[first]).tolist() == [2] * 5
    seen = {image.numpy().tobytes() for image in pool.pixel_values}
    assert not any(image.numpy().tobytes() in seen for image in test.pixel_values)


def test_every_strategy_chooses_different_images():
    samples = torch.rand(6, 40, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    output = PredictiveOutput.__new__(PredictiveOutput)
    output.samples, output.log_probs = samples, samples.mean(0).log()
    output.entropy, output.mutual_information = torch.arange(40.0), -torch.arange(40.0)
    chosen = {name: choose(output, 10, 0).tolist() for name, choose in active_learning.STRATEGIES.items()}
    assert all(len(set(indices)) == 10 for indices in chosen.values())
    assert chosen["entropy"] == list(range(39, 29, -1))
    assert chosen["BALD"] == list(range(10))
    assert active_learning.STRATEGIES["random"](output, 10, 1).tolist() != chosen["random"]


def test_the_last_column_is_the_paired_difference_of_all_rounds():
    def run(*values):
        return [{"labels": 10 * (i + 1), "accuracy": value, "nll": 1.0} for i, value in enumerate(values)]

    gains = [(0.1, 0.2), (0.0, 0.1)]  # by seed and round
    results = [
        {
            name: run(0.5, *(0.6 + gain for gain in own)) if name == "BALD" else run(0.5, 0.6, 0.6)
            for name in active_learning.STRATEGIES
        }
        for own in gains
    ]
    lines = {line[:22].strip(): line for line in active_learning.table(results).splitlines()[:5]}
    assert lines["BALD"].endswith("+0.1000 ± 0.0500")
    assert lines["entropy"].endswith("+0.0000 ± 0.0000")
    assert lines["BALD"].split()[1:4] == ["0.500", "0.650", "0.750"]


@pytest.mark.slow
def test_runs_end_to_end_at_a_small_size(tmp_path, monkeypatch, capsys):
    def not_pretrained(output_dir):
        ood_detection.new_model(0).base_model.save_pretrained(output_dir / "pretrained")
        return output_dir / "pretrained"

    monkeypatch.setattr(active_learning.demo, "pretrain", not_pretrained)
    monkeypatch.setattr("sys.argv", ["active_learning.py", "--output_dir", str(tmp_path), "--quick"])
    active_learning.main()
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())["seeds"]
    assert len(results) == 2
    for run in results:
        assert list(run) == list(active_learning.STRATEGIES)
        assert all([own["labels"] for own in rounds] == [10, 20] for rounds in run.values())
        assert len({rounds[0]["nll"] for rounds in run.values()}) == 1  # all start alike
        assert len({rounds[1]["nll"] for rounds in run.values()}) > 1
    mean = np.mean([run["entropy"][1]["accuracy"] for run in results])
    assert f"{mean:.3f}" in printed
    assert (tmp_path / "active_learning.png").stat().st_size > 10_000
