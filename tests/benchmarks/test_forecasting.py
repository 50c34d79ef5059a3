"""The forecasting benchmark with a made series and a tiny network."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from transformers import set_seed
from transformers.utils import logging

from benchmarks import forecasting
from benchmarks.evaluation import forecasting_report as report
from benchmarks.evaluation import forecasting_runs as runs
from benchmarks.evaluation import forecasting_tasks as tasks
from benchmarks.evaluation import forecasting_training as training
from benchmarks.evaluation.forecasting_scores import LEVELS, PIT_BINS, scores
from hf_scorevi.metrics import crps_gaussian_mixture, mixture_nll
from hf_scorevi.time_series import SlidingWindows


@pytest.fixture(scope="module", autouse=True)
def global_settings() -> Iterator[None]:
    """The program sets them for its process."""
    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a program that has run."""
    folder = tmp_path_factory.mktemp("forecasting")
    argv = ["--quick", "--models", "koopa", "--seeds", "2", "--output-dir", str(folder)]
    forecasting.main(argv)
    return argv


def test_every_method_has_its_figures(arguments: list[str]) -> None:
    content = json.loads((Path(arguments[-1]) / "results.json").read_text())
    assert content["quick"] and content["seeds"] == [0, 1] and content["environment"]["packages"]["transformers"]
    (result,) = content["results"]
    assert list(result["rows"]) == list(runs.METHODS) and result["lengths"] == [12, 6]
    steps = 2 * math.ceil(result["num_train"] / training.BATCH)  # of two epochs
    for method, found in result["rows"].items():
        assert [run["seed"] for run in found] == [0, 1]
        for run in found:
            figures = run["figures"]
            assert all(0 <= figures[name] <= 1 for name in (*report.COVERAGES, "coverage_error", "epistemic"))
            assert 0 < figures["crps"] < figures["mae"] < 2 and np.isfinite(figures["nll"])
            assert sum(figures["pit"]) == result["num_test"] * 6 * 2
            assert run["seconds"]["training"] > 0 and run["seconds"]["prediction"] > 0
            assert 0 < run["gradient_evaluations"] <= steps * (runs.MEMBERS if method == "ensemble" else 1)
            assert (figures["epistemic"] == 0) == method.startswith("adamw")
    mean = {m: np.mean([run["figures"]["mse"] for run in found]) for m, found in result["rows"].items()}
    assert mean["ensemble"] < mean["adamw"]  # which are its first members


def test_the_report_says_what_the_results_say(arguments: list[str]) -> None:
    folder = Path(arguments[-1])
    content, text = json.loads((folder / "results.json").read_text()), (folder / "report.md").read_text()
    assert text == report.markdown(content)
    (result,) = content["results"]
    found = np.array([[run["figures"]["crps"] for run in result["rows"][m]] for m in ("adamw_window", "score_vi")])
    assert f"{found[0].mean():.4f} ± {found[0].std(ddof=1):.4f}" in text
    delta = found[1] - found[0]
    error = stats.sem(delta)
    assert f"{delta.mean():+.4f} ± {error:.4f} ({(delta < 0).sum()}/2)" in text
    (verdict,) = [line for line in text.splitlines() if line.startswith("ScoreVI against AdamW: ")]
    assert f"CRPS better in every seed: {'yes' if (delta < 0).all() else 'no'}" in verdict
    (picture,) = result["pictures"]
    assert f"({picture})" in text and (folder / picture).stat().st_size > 1000


def test_runs_are_made_once(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(arguments[-1])
    before = (folder / "report.md").read_text()
    (folder / "runs" / "made-6-koopa-advi-1.json").unlink()
    forecasting.main(arguments)
    assert [line for line in capsys.readouterr().err.splitlines() if "seed" in line] == ["made-6-koopa: seed 1, advi"]
    changed = set(before.splitlines()) ^ set((folder / "report.md").read_text().splitlines())
    assert all("minutes" in line or line.startswith("| ADVI |") for line in changed)  # the same but for its seconds
    assert not any("±" in line for line in changed)


def test_one_report_of_two_results(arguments: list[str], tmp_path: Path) -> None:
    file = Path(arguments[-1]) / "results.json"
    content = json.loads(file.read_text())
    del content["results"][0]["rows"]["ensemble"]
    content["results"][0]["title"] = "another series"
    (tmp_path / "other.json").write_text(json.dumps(content))
    forecasting.main(["--report", str(file), str(tmp_path / "other.json"), "--output-dir", str(tmp_path)])
    text = (tmp_path / "report.md").read_text()
    first, second = text[text.index("## a made series") :].split("## another series")
    assert "| deep ensemble |" in first and "| deep ensemble |" not in second and "| ScoreVI |" in second


def test_scores_against_scipy_and_the_metrics() -> None:
    random = np.random.default_rng(0)
    samples, targets = random.normal(0, 1, (3, 150, 4, 2)), random.normal(0.2, 1.2, (150, 4, 2))
    variance = random.uniform(0.2, 1, (150, 4, 2))
    found = scores(*(torch.tensor(values, dtype=torch.float32) for values in (samples, variance, targets)))
    flat = samples.reshape(3, -1).T, np.sqrt(variance).ravel(), targets.ravel()
    assert found["mse"] == pytest.approx(np.square(samples.mean(0) - targets).mean(), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(samples.mean(0) - targets).mean(), rel=1e-5)
    assert found["nll"] == pytest.approx(mixture_nll(*flat)["mixture_nll"], rel=1e-5)
    assert found["crps"] == pytest.approx(crps_gaussian_mixture(*flat)["crps_gaussian_mixture"], rel=1e-5)
    pit = stats.norm.cdf(targets, samples, np.sqrt(variance)).mean(0)
    covered = [np.mean(np.abs(pit - 0.5) <= level / 2) for level in LEVELS]
    assert [found[name] for name in report.COVERAGES] == pytest.approx(covered, abs=1e-6)
    assert found["coverage_error"] == pytest.approx(np.abs(np.subtract(covered, LEVELS)).mean(), abs=1e-6)
    assert found["pit"] == np.histogram(pit, PIT_BINS, (0, 1))[0].tolist()
    between = samples.var(0)
    assert found["epistemic"] == pytest.approx((between / (between + variance)).mean(), rel=1e-5)


def test_dropout_is_that_of_training_and_leaves_no_trace() -> None:
    data = tasks.load(tasks.MADE, None, 6)
    set_seed(0)
    model = tasks.new_model("koopa", tasks.MADE, data).eval()
    plain, scale, observed = runs.forecasts(model, data.test, range(5))
    torch.testing.assert_close(observed, torch.stack([data.test[i]["future_values"] for i in range(5)]))
    past = np.stack([data.test[i]["past_values"] for i in range(5)])
    np.testing.assert_allclose(scale[:, 0].square(), past.var(1), atol=1e-4)
    state = torch.random.get_rng_state()
    drawn = []
    for seed in (0, 1, 0):
        with runs.dropout(model, seed):
            drawn.append(runs.forecasts(model, data.test, range(5)).values)
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert not any(torch.equal(plain, values) for values in drawn)
    assert torch.equal(runs.forecasts(model, data.test, range(5)).values, plain)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_noise_of_the_baselines() -> None:
    random = np.random.default_rng(0)
    observed, scale = random.normal(size=(50, 4, 2)), random.uniform(0.5, 2, (50, 1, 2))
    components = [random.normal(size=(50, 4, 2)) for _ in range(3)]
    as_tensors = [[torch.tensor(values) for values in (own, scale, observed)] for own in components]
    found = [runs.Forecasts(*tensors) for tensors in as_tensors]
    squares = np.square(observed - np.mean(components, axis=0))
    one = runs.fit_noise(found, one_variance=True).of(*found[0][:2])
    np.testing.assert_allclose(one, squares.mean(), rtol=1e-5)
    noise = runs.fit_noise(found, one_variance=False)
    assert noise.floor is not None
    level = np.square(scale) + noise.floor.numpy()
    expected = (squares / level).mean((0, 2))[:, None] * level
    np.testing.assert_allclose(noise.of(*found[0][:2]), expected, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 2, 11, 22, 400, 2660])
def test_steps_within_the_budget(budget: int) -> None:
    steps = training.budget_steps(budget, 10)
    cost = [sum(2 if step % 10 == 0 else 1 for step in range(count)) for count in (steps, steps + 1)]
    assert cost[0] <= budget < cost[1]


# Koopa's parameters at the shortest horizon, counted with the original (thuml/Koopa).
COUNTS = {"etth1": (7, 567_808), "etth2": (7, 567_808), "exchange": (8, 694_960), "ili": (7, 539_072)}
COUNTS |= {"weather": (21, 238_112)}


@pytest.mark.parametrize("name", list(COUNTS))
def test_networks_have_the_published_sizes(name: str) -> None:
    task, (channels, count) = tasks.TASKS[name], COUNTS[name]
    horizon = task.shortest
    windows = SlidingWindows(np.random.default_rng(0).normal(size=(4 * horizon, channels)), 2 * horizon, horizon)
    data = tasks.Data(windows, windows, windows, [str(i) for i in range(channels)])
    assert sum(p.numel() for p in tasks.new_model("koopa", task, data).parameters()) == count


def test_the_series_are_split_as_in_the_literature(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(5, 3, (14500, 2)), columns=["a", "OT"])
    frame.insert(0, "date", pd.date_range("2016-07-01", periods=14500, freq="h"))
    frame.to_csv(tmp_path / "ETTh1.csv.gz", index=False)
    task = tasks.TASKS["etth1"]
    data = tasks.load(task, tasks.find_file(task, tmp_path), 48)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8640 - 143, 2880 - 47, 2880 - 47]
    values = frame[["a", "OT"]].to_numpy()
    standard = (values - values[:8640].mean(0)) / values[:8640].std(0)
    for part, first in ((data.train, 96), (data.validation, 8640), (data.test, 11520)):
        np.testing.assert_allclose(part[0]["future_values"], standard[first : first + 48], atol=1e-5)
    assert data.channels == ["a", "OT"] and tasks.find_file(tasks.TASKS["ili"], tmp_path) is None


def test_refused_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong: list[tuple[list[Any], str]] = [
        ([], "--data-dir"),
        (["--quick", "--seeds", "0"], "at least 1"),
        (["--data-dir", tmp_path, "--tasks", "etth2"], "has no series ETTh2"),
    ]
    (tmp_path / "ETTh1.csv").touch()
    wrong.append((["--data-dir", tmp_path, "--tasks", "etth1", "--horizons", "24"], "no settings for the horizon 24"))
    for argv, message in wrong:
        with pytest.raises(SystemExit):
            forecasting.main([str(argument) for argument in argv])
        assert message in capsys.readouterr().err
