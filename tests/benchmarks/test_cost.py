"""The benchmark of training's cost, with tiny models."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from benchmarks import cost
from benchmarks.evaluation.cost_meters import StorageMeter, take_turns
from benchmarks.evaluation.cost_subjects import METHODS, Settings

QUICK = Settings(device="cpu", batch_size=2, image_size=32, bf16=False, quick=True)
CHOSEN = ["score_vi_isotropic", "score_vi_diagonal", "advi", "ivon", "score_vi_lora"]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """What one program measures of two models, without the package of IVON."""
    output = tmp_path_factory.mktemp("cost") / "cost.json"
    arguments = ["--quick", "--device", "cpu", "--threads", "1", "--image-size", "32", "--batch-size", "2"]
    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ivon", None)  # an import of it fails
        cost.main([*arguments, "--output", str(output), "--models", "vit_b16", "patchtst", "--methods", *CHOSEN])
    yield json.loads(output.read_text())
    torch.set_num_threads(threads)
    logging.set_verbosity(verbosity)


def test_every_method_is_measured(content: dict) -> None:
    full = ["adamw", "score_vi_isotropic", "score_vi_diagonal", "advi"]
    expected = [("vit_b16", name) for name in (*full, "adamw_lora", "score_vi_lora")]
    expected += [("patchtst", name) for name in full]
    assert [(row["model"], row["method"]) for row in content["rows"]] == expected
    assert content["settings"]["batch_size"] == 2 and content["settings"]["steps"] == 4
    assert content["hardware"] and content["environment"]["packages"]["transformers"]
    for row in content["rows"]:
        method = METHODS[row["method"]]
        kinds = {"ordinary", "mean"} | ({"curvature"} if method.family and method.objective == "score" else set())
        assert row["seconds"].keys() == row["ratios"].keys() == kinds
        assert all(value > 0 for value in row["seconds"].values())
        assert (row["ratios"]["ordinary"] == 1) == (method.baseline is None)
        assert len(row["every_step"].get("curvature", [0, 0])) == 2


def test_the_mean_step(content: dict) -> None:
    row = next(row for row in content["rows"] if row["method"] == "score_vi_diagonal")
    seconds = row["seconds"]
    assert seconds["mean"] == pytest.approx((9 * seconds["ordinary"] + seconds["curvature"]) / 10)
    ordinary, curvature = row["shares"]["ordinary"], row["shares"]["curvature"]
    assert 0 < ordinary["draw"] < 1 and ordinary["statistic"] == ordinary["precision"] == 0
    assert curvature["statistic"] > 0 and curvature["precision"] > 0 and sum(curvature.values()) < 1


def test_memory(content: dict) -> None:
    for row in content["rows"]:
        method, resident = METHODS[row["method"]], row["resident_copies"]
        assert row["peak_copies"] > resident - 0.1
        if method.baseline is None:
            assert resident == pytest.approx(4, abs=0.1)
        elif method.objective == "score":
            assert 4.9 < resident <= {"isotropic": 5.1, "diagonal": 7.1}[method.family]


def test_what_is_left_out_says_why(content: dict, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {(entry["model"], entry["method"]): entry["reason"] for entry in content["left_out"]}
    assert reasons.keys() == {
        ("vit_b16", "ivon"),
        ("patchtst", "ivon"),
        ("patchtst", "adamw_lora"),
        ("patchtst", "score_vi_lora"),
    }
    assert (
        "ivon-opt is not installed" in reasons["vit_b16", "ivon"] and "ViTs alone" in reasons["patchtst", "adamw_lora"]
    )
    report = cost.markdown(content)
    assert "| score_vi_diagonal, curvature |" in report and "- vit_b16, ivon: The package ivon-opt" in report


def test_a_limit_that_does_not_hold_is_reported(content: dict) -> None:
    assert content["checks"] and all(check["held"] for check in content["checks"])
    row = next(row for row in content["rows"] if row["method"] == "score_vi_diagonal")
    row = row | {"resident_copies": 7.5, "peak_copies": 8.0, "ratios": {"mean": 1.3}}
    found = cost.checks([row], Settings("cpu", 8, 224, False, quick=False), k=10)
    assert [(c["figure"], c["held"]) for c in found] == [("resident", False), ("peak", True), ("mean step ×", False)]


def test_storages_are_counted_until_they_are_freed() -> None:
    with StorageMeter() as meter:
        x = torch.zeros(1000)
        kept = x[:10]  # a view keeps the whole
        y = x + 1
        assert meter.allocated == meter.peak == 8000
        del x, y
        assert meter.allocated == 4000
        del kept
        assert meter.allocated == 0
        meter.watch(False)
        torch.zeros(9000)
        assert meter.peak == 8000


def test_runs_take_turns_and_an_error_ends_all() -> None:
    order: list[str] = []

    def run(name: str, steps: int, fails: bool = False):
        def training(pause) -> None:
            for i in range(steps):
                pause()
                order.append(f"{name}{i}")
                if fails and i == 1:
                    raise ValueError("no more")

        return training

    take_turns([run("a", 2), run("b", 2)])
    assert order == ["a0", "b0", "a1", "b1"]
    order.clear()
    with pytest.raises(ValueError, match="no more"):
        take_turns([run("a", 9), run("b", 9, fails=True)])
    assert order == ["a0", "b0", "a1", "b1"]


def test_ivon(tmp_path: Path) -> None:
    pytest.importorskip("ivon")
    assert cost.measure_memory("patchtst", "ivon", QUICK)["resident_copies"] == pytest.approx(4, abs=0.1)
