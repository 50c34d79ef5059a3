import json

import numpy as np
import pytest
import torch

from examples import ood_detection


def test_the_parts_are_disjoint_and_those_outside_are_other_digits():
    train, inside, outside = ood_detection.split(1)
    assert len(train) == 150
    assert set(train.labels.tolist()) | set(inside.labels.tolist()) == set(range(5))
    assert set(outside.labels.tolist()) == set(range(5, 10))
    assert len(train) + len(inside) + len(outside) == 1797
    seen = {image.numpy().tobytes() for image in train.pixel_values}
    assert not any(image.numpy().tobytes() in seen for image in inside.pixel_values)


def test_the_last_column_is_the_paired_difference():
    rows = {"AdamW: entropy": (0.6, 0.7), "ScoreVI, mean: entropy": (0.8, 0.75)}
    runs = [
        {row: {"accuracy": 0.9, "auroc": values[seed], "fpr95": 0.5} for row, values in rows.items()}
        for seed in (0, 1)
    ]
    reference, mean = ood_detection.table(runs).splitlines()[1:]
    assert "0.650 ± 0.071" in reference
    assert reference.endswith("0.500 ± 0.000")
    assert mean.endswith("+0.125 ± 0.075")


def test_seeds_are_pooled():
    outputs = [ood_detection.Outputs(torch.zeros(0), {"entropy": torch.full((2,), float(i))}) for i in range(4)]
    found = ood_detection.pooled([{"AdamW": (outputs[0], outputs[1])}, {"AdamW": (outputs[2], outputs[3])}])
    assert [part.tolist() for part in found["AdamW"]] == [[0, 0, 2, 2], [1, 1, 3, 3]]


@pytest.mark.slow
def test_runs_end_to_end_at_a_small_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ood_detection.py", "--output_dir", str(tmp_path), "--quick"])
    ood_detection.main()
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())["seeds"]
    assert len(results) == 2
    for run in results:
        assert list(run) == [
            "AdamW: entropy",
            "AdamW: energy",
            "ScoreVI, mean: entropy",
            "ScoreVI, predictive: entropy",
            "ScoreVI, predictive: mutual information",
        ]
        for row, own in run.items():
            assert row in printed
            assert all(0 <= own[metric] <= 1 for metric in ("accuracy", "auroc", "fpr95"))
    aurocs = np.array([[own["auroc"] for own in run.values()] for run in results])
    assert f"{aurocs[:, 0].mean():.3f} ± {aurocs[:, 0].std(ddof=1):.3f}" in printed
    assert (tmp_path / "entropy.png").stat().st_size > 10_000


def test_both_methods_spend_the_same_gradients(tmp_path, monkeypatch):
    steps = {}

    class Stop(Exception):
        pass

    def stopped(cls, output_dir, count, *args, **kwargs):
        steps[cls.__name__] = count
        raise Stop

    monkeypatch.setattr(ood_detection.demo, "arguments", stopped)
    for size in (ood_detection.FULL, ood_detection.QUICK):
        for run in (ood_detection.run_adamw, ood_detection.run_score_vi):
            with pytest.raises(Stop):
                run(tmp_path, None, [], size, 0)
        score_vi = steps["ScoreVITrainingArguments"]
        assert score_vi + -(-score_vi // 10) == steps["TrainingArguments"] == size.gradient_evaluations
