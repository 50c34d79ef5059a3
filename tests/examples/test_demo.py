import json

import numpy as np
import pytest

from examples import demo


def runs(nll, ece=(0.1, 0.1, 0.1), accuracy=(0.8, 0.8, 0.8)):
    rows = zip(nll, ece, accuracy, strict=True)
    return [{"seed": i, "nll": n, "ece": e, "accuracy": a, "brier": 0.3} for i, (n, e, a) in enumerate(rows)]


def test_both_methods_spend_the_same_gradients():
    for interval in (1, 7, 10):
        steps = demo.score_vi_steps(interval)
        assert demo.GRADIENT_EVALUATIONS - 2 < steps + -(-steps // interval) <= demo.GRADIENT_EVALUATIONS


def test_the_task_is_few_shot_and_its_parts_are_disjoint():
    train, test = demo.digits_task(3)
    assert np.bincount(train.labels.numpy()).tolist() == [10] * 5
    assert len(train) + len(test) == 896
    seen = {image.numpy().tobytes() for image in train.pixel_values}
    assert not any(image.numpy().tobytes() in seen for image in test.pixel_values)


def test_shortfalls_are_named():
    adamw = runs([1.0, 1.1, 0.9])
    assert demo.shortfalls({"adamw": adamw, "score_vi": runs([0.5, 0.7, 0.4], (0.01, 0.02, 0.03))}) == []
    worse = demo.shortfalls({"adamw": adamw, "score_vi": runs([1.2, 1.0, 1.1], accuracy=(0.6, 0.7, 0.65))})
    assert worse == [
        "nll is not lower by a standard error",
        "ece is not lower by a standard error",
        "nll is lower in too few seeds",
        "accuracy is lower by more than a standard error",
    ]


def test_runs_end_to_end_at_a_small_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "GRADIENT_EVALUATIONS", 22)
    monkeypatch.setattr(demo, "shortfalls", lambda results: [])
    monkeypatch.setattr("sys.argv", ["demo.py", "--output_dir", str(tmp_path), "--num_seeds", "2"])
    demo.main()
    printed = capsys.readouterr().out
    assert "ScoreVI, predictive" in printed and "loads again and gives the same figures" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"adamw", "score_vi_mean", "score_vi", "seconds"}
    for row in demo.ROWS:
        assert [run["seed"] for run in results[row]] == [0, 1]
        assert all(set(run) == {"seed", *demo.METRICS} for run in results[row])
    assert (tmp_path / "reliability.png").stat().st_size > 10_000
    assert (tmp_path / "checkpoint" / "posterior.safetensors").is_file()


def test_one_seed_has_no_spread(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["demo.py", "--output_dir", str(tmp_path), "--num_seeds", "1"])
    with pytest.raises(SystemExit):
        demo.main()
    assert "must be at least 2" in capsys.readouterr().err
