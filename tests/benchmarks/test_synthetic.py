"""The benchmark program at a tiny size, and what it does with methods that fail."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

blackbox = pytest.importorskip("hf_scorevi.blackbox")

from benchmarks import synthetic  # noqa: E402
from benchmarks.evaluation.figures import curve, group_figure  # noqa: E402
from benchmarks.evaluation.measures import gaussian_kl, measure  # noqa: E402
from benchmarks.evaluation.report import markdown  # noqa: E402
from benchmarks.evaluation.runs import Run, Settings, compare_with_stl, run_method  # noqa: E402
from benchmarks.targets.gaussian import random_gaussian  # noqa: E402


def test_program(tmp_path: Path) -> None:
    arguments = ["--quick", "--max-evaluations", "200", "--output-dir", str(tmp_path)]
    synthetic.main([*arguments, "--targets", "gaussian-4", "noisy-1", "--methods", "score_vi", "advi_stl"])
    content = json.loads((tmp_path / "results.json").read_text())
    assert [(run["target"], run["method"]) for run in content["runs"]] == [
        ("gaussian-4", "score_vi"),
        ("gaussian-4", "advi_stl"),
        ("noisy-1", "score_vi"),
        ("noisy-1", "advi_stl"),
    ]
    for run in content["runs"]:
        assert run["status"] == "ok" and run["trace"]["negative_elbo"] and 0 < run["evaluations"] <= 200
        assert {"negative_elbo", "reverse_kl", "forward_kl", "mean_error", "sd_error"} <= run["measures"].keys()
    assert content["runs"][1]["tried"].keys() == {"0.02", "0.1"}
    assert content["environment"]["packages"]["torch"] and content["settings"]["max_evaluations"] == 200
    report = (tmp_path / "report.md").read_text()
    assert "| gaussian-4 | score_vi |" in report and "noise variance" in report and "None." in report
    assert (tmp_path / "gaussian.png").stat().st_size > 0 and (tmp_path / "noisy.png").stat().st_size > 0


def test_a_report_of_earlier_runs(tmp_path: Path) -> None:
    """What two programs ran separately makes one report, the same as if one had run it all."""
    arguments = ["--quick", "--max-evaluations", "200", "--methods", "score_vi", "advi_stl"]
    for name in ("gaussian-4", "noisy-1"):
        synthetic.main([*arguments, "--output-dir", str(tmp_path / name), "--targets", name])
    synthetic.main([*arguments, "--output-dir", str(tmp_path / "both"), "--targets", "gaussian-4", "noisy-1"])
    files = [str(tmp_path / name / "results.json") for name in ("gaussian-4", "noisy-1")]
    synthetic.main(["--report", *files, "--output-dir", str(tmp_path / "merged")])

    def runs(name: str) -> list[dict]:
        found = json.loads((tmp_path / name / "results.json").read_text())["runs"]
        return [{key: value for key, value in run.items() if key != "seconds"} for run in found]

    assert runs("merged") == runs("both")
    merged = (tmp_path / "merged" / "report.md").read_text()
    assert "| noisy-1 | score_vi |" in merged
    assert "with no more evaluations than STL-ADVI itself on 2 of 2 targets" in merged
    other = ["--quick", "--max-evaluations", "100", "--targets", "noisy-1", "--methods", "bam"]
    synthetic.main([*other, "--output-dir", str(tmp_path / "other")])
    with pytest.raises(SystemExit, match="other settings"):
        synthetic.main(["--report", *files, str(tmp_path / "other" / "results.json"), "--output-dir", str(tmp_path)])


def test_targets_are_chosen_by_group_name_or_pattern() -> None:
    assert synthetic.choose_targets(["mixture-1d", "noisy-*"], None)[:2] == ["mixture-1d", "noisy-0"]
    assert len(synthetic.choose_targets(["gaussian"], None)) == 12
    assert len(synthetic.choose_targets(["posteriordb"], Path("anywhere"))) == 12
    with pytest.raises(SystemExit, match="--data-dir"):
        synthetic.choose_targets(["posteriordb"], None)


def test_a_failing_method_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**kwargs: object) -> None:
        raise RuntimeError("no such\nluck")

    monkeypatch.setattr(blackbox, "fit", fails)
    settings = Settings(max_evaluations=10)
    runs = [run_method(lambda: random_gaussian(4), method, 0, settings) for method in ("bam", "advi")]
    assert [run.status for run in runs] == ["exception", "exception"]
    assert len(runs[1].tried) == 6
    report = markdown(runs, settings, 1)
    assert "RuntimeError: no such luck" in report and "1/1" in report
    group_figure("gaussian", runs)
    json.dumps([run.as_json() for run in runs], allow_nan=False)


@pytest.mark.parametrize(("scale", "status"), [(float("nan"), "not finite"), (1e4, "diverged")])
def test_unsound_results_are_recorded(monkeypatch: pytest.MonkeyPatch, scale: float, status: str) -> None:
    class Result:
        mean = torch.full((4,), scale, dtype=torch.float64)
        covariance = torch.eye(4, dtype=torch.float64)
        trace = ({"evaluations": 0, "negative_elbo": float("nan")},)
        evaluations, converged, message = 10, False, ""

    monkeypatch.setattr(blackbox, "fit", lambda **kwargs: Result())
    run = run_method(lambda: random_gaussian(4), "gsm", 0, Settings(max_evaluations=10))
    assert run.status == status and math.isinf(run.loss)
    json.dumps(run.as_json(), allow_nan=False)


def test_measures_of_the_target_itself_are_zero() -> None:
    target = random_gaussian(4)
    assert target.reference is not None
    found = measure(target, target.reference.mean, target.reference.covariance)
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in found.values())


def test_measures_against_torch_distributions() -> None:
    p, q = random_gaussian(4, seed=1).reference, random_gaussian(4, 10.0, seed=2).reference
    assert p is not None and q is not None
    mvn = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(mvn(p.mean, p.covariance), mvn(q.mean, q.covariance))
    assert gaussian_kl(p.mean, p.covariance, q.mean, q.covariance) == pytest.approx(expected.item(), rel=1e-9)
    found = measure(random_gaussian(4, seed=1), q.mean, q.covariance)  # q‖p by samples and by formula
    assert abs(found["negative_elbo"] - found["reverse_kl"]) < 5 * found["negative_elbo_standard_error"]


def trace(*values: float) -> list[dict[str, float]]:
    return [{"evaluations": 10 * index, "negative_elbo": value} for index, value in enumerate(values)]


def test_evaluations_to_reach_stl() -> None:
    stl = Run("t", "gaussian", 1, "advi_stl", 0, trace=trace(5.0, 3.0, 1.0))
    fast = Run("t", "gaussian", 1, "bam", 0, trace=trace(5.0, 1.04, 0.9))
    never = Run("t", "gaussian", 1, "gsm", 0, trace=trace(5.0, 4.0, 3.0))
    other_seed = Run("t", "gaussian", 1, "bam", 1, trace=trace(0.0))
    compare_with_stl([stl, fast, never, other_seed])
    assert [run.evaluations_to_stl for run in (stl, fast, never, other_seed)] == [20, 10, None, None]


def test_curve_is_the_median_over_seeds() -> None:
    values = ((4.0, 2.0, 0.0), (5.0, 1.0), (9.0, 9.0, 9.0))
    runs = [Run("t", "mixture", 1, "bam", seed, trace=trace(*row)) for seed, row in enumerate(values)]
    x, y = curve(runs, "negative_elbo")
    assert np.array_equal(x, [0.0, 10.0, 20.0]) and np.array_equal(y, [5.0, 2.0, 1.0])
