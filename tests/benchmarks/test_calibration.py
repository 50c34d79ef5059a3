"""The calibration benchmark with synthetic images and tiny networks."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from transformers.utils import logging

from benchmarks import calibration
from benchmarks.evaluation import calibration_report as report
from benchmarks.evaluation import calibration_runs as runs
from benchmarks.evaluation.calibration_tasks import Data, Images, Rotations, pretrain
from hf_scorevi.posthoc import fit_temperature

VIT_ROWS = ["adamw", "adamw_temperature", "mean", "predictive", "predictive_temperature"]
RESNET_ROWS = [*VIT_ROWS, "per_draw", "per_draw_temperature"]


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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the program leaves."""
    path = tmp_path_factory.mktemp("calibration")
    calibration.main(["--quick", "--seeds", "2", "--output-dir", str(path)])
    return path


def test_every_row_has_its_figures(folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text())
    assert content["quick"] and content["seeds"] == [0, 1] and content["environment"]["packages"]["transformers"]
    cifar, fashion = content["tasks"]["cifar10"]["rows"], content["tasks"]["fashion_mnist"]["rows"]
    assert list(cifar) == RESNET_ROWS and list(fashion) == VIT_ROWS
    for rows, extra in ((cifar, {"human_nll"}), (fashion, {"ood_auroc"})):
        for row, found in rows.items():
            assert [run["seed"] for run in found] == [0, 1]
            for run in found:
                more = extra | ({"ood_auroc_mi"} if rows is fashion and row == "predictive" else set())
                assert run["figures"].keys() == {"accuracy", "nll", "ece", "brier", "aurc"} | more
                assert all(0 <= value < 10 for value in run["figures"].values()) and run["seconds"]["training"] > 0
    for rows in (cifar, fashion):  # a temperature leaves the ranking of classes alone
        for row in ("adamw", "predictive"):
            scaled = rows[f"{row}_temperature"]
            assert [run["figures"]["accuracy"] for run in rows[row]] == [run["figures"]["accuracy"] for run in scaled]
            assert any(a["figures"]["nll"] != b["figures"]["nll"] for a, b in zip(rows[row], scaled, strict=True))


def test_the_report_says_what_the_results_say(folder: Path) -> None:
    content, text = json.loads((folder / "results.json").read_text()), (folder / "report.md").read_text()
    assert text == report.markdown(content)
    for result in content["tasks"].values():
        found = np.array([run["figures"]["nll"] for run in result["rows"]["adamw"]])
        assert f"{found.mean():.3f} ± {found.std(ddof=1):.3f}" in text
        for picture in result["pictures"]:
            assert f"({picture})" in text and (folder / picture).stat().st_size > 1000
        for method, tried in result["validation_nll_by_learning_rate"].items():
            assert tried[f"{result['learning_rates'][method]:g}"] == min(tried.values())
    assert "entropy-fashion_mnist.png" in text and "entropy-cifar10.png" not in text


def test_the_predictive_of_the_checkpoint_is_the_trainers(folder: Path, tmp_path: Path) -> None:
    task = calibration.quick("fashion_mnist")
    data = task.load(Path())
    train, validation = task.draw(data, 1)
    pretrained = folder / "work" / "fashion_mnist" / "pretrained"
    trainer, model = runs.train_score_vi(task, train, pretrained, tmp_path, 1e-2, 1)
    expected = trainer.predict(validation).predictions
    found = runs.predict_by_draws(model, validation, seed=1)
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-5)
    assert found.mutual_information is not None and found.mutual_information.max() > 0
    assert trainer.state.max_steps == 10  # and one curvature step, at the first


def test_the_temperature_comes_from_the_validation_images() -> None:
    generator = torch.Generator().manual_seed(0)
    sets = {
        name: Images(np.zeros((40, 1, 2, 2), np.uint8), np.random.default_rng(i).integers(0, 3, 40))
        for i, name in enumerate(("validation", "test"))
    }
    noise = {id(images): torch.randn(40, 3, generator=generator) for images in sets.values()}
    logits = {  # which know something of the labels
        id(images): (torch.nn.functional.one_hot(images.labels, 3) + noise[id(images)]).log_softmax(-1)
        for images in sets.values()
    }
    found = runs.outcome(lambda images: runs.Predicted(logits[id(images)]), sets, 1.5)
    assert found.temperature == fit_temperature(logits[id(sets["validation"])], sets["validation"].labels)
    assert found.temperature != fit_temperature(logits[id(sets["test"])], sets["test"].labels)
    assert found.seconds["training"] == 1.5
    rows = runs.with_temperatures({"adamw": found})
    expected = (logits[id(sets["test"])] / found.temperature).softmax(-1)
    torch.testing.assert_close(rows["adamw_temperature"].predicted["test"].log_probs.exp(), expected)


def test_labelled_and_validation_images_are_apart_and_balanced() -> None:
    labels = np.repeat(np.arange(10), 30)
    pool = np.arange(300, dtype=np.float64).reshape(300, 1, 1, 1)  # an image that is its own number
    data = Data(pool, labels, pool, labels)  # type: ignore[arg-type]
    task = calibration.quick("fashion_mnist")
    for seed in (0, 1):
        train, validation = task.draw(data, seed)
        numbers = [np.rint((part.pixel_values.flatten().numpy() * 0.35 + 0.29) * 255) for part in (train, validation)]
        assert len(np.unique(np.concatenate(numbers))) == 150
        for part, found, count in zip((train, validation), numbers, (10, 5), strict=True):
            np.testing.assert_array_equal(part.labels, labels[found.astype(int)])
            np.testing.assert_array_equal(np.bincount(part.labels), [count] * 10)
    assert not torch.equal(task.draw(data, 0)[0].pixel_values, train.pixel_values)


def test_rotations() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 4)).astype(np.uint8)
    rotations = Rotations(images, np.zeros(3, np.int64))
    assert len(rotations) == 12
    for i in range(12):
        expected = (np.rot90(images[i // 4], i % 4, (1, 2)) / 255 - 0.5) / 0.25
        np.testing.assert_allclose(rotations[i]["pixel_values"], expected, atol=1e-6)
        assert rotations[i]["labels"] == i % 4


def test_pretraining_uses_no_labels(tmp_path: Path) -> None:
    task = calibration.quick("fashion_mnist")
    data = task.load(Path())
    for name, labels in (("a", data.pool_labels), ("b", data.pool_labels[::-1].copy())):
        pretrain(task, Data(data.pool, labels, data.test, data.test_labels), tmp_path / name)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_figures_against_scikit_learn() -> None:
    random = np.random.default_rng(3)
    log_probs = torch.tensor(random.dirichlet([1.0] * 4, 60)).log()
    others = torch.tensor(random.dirichlet([3.0] * 4, 40)).log()
    labels, human = random.integers(0, 4, 60), random.dirichlet([1.0] * 4, 60)
    scores = torch.tensor(random.random(100))
    predicted = {
        "test": runs.Predicted(log_probs, scores[:60]),
        "others": runs.Predicted(others, scores[60:]),
    }
    images = np.zeros((60, 1, 2, 2), np.uint8)
    found = runs.figures(runs.Outcome(predicted, 1.0), Data(images, labels, images, labels, human=human))
    probs = log_probs.exp().numpy()
    assert found["nll"] == pytest.approx(log_loss(labels, probs))
    assert found["brier"] == pytest.approx(brier_score_loss(labels, probs, scale_by_half=False))
    assert found["accuracy"] == pytest.approx((probs.argmax(1) == labels).mean())
    assert found["human_nll"] == pytest.approx(-(human * np.log(probs)).sum(1).mean())
    is_other = np.repeat([0, 1], [60, 40])
    entropies = stats.entropy(np.concatenate([probs, others.exp()]), axis=1)
    assert found["ood_auroc"] == pytest.approx(roc_auc_score(is_other, entropies))
    assert found["ood_auroc_mi"] == pytest.approx(roc_auc_score(is_other, scores))


@pytest.mark.parametrize("budget", [1, 2, 11, 22, 400, 800])
def test_steps_within_the_budget(budget: int) -> None:
    steps = runs.score_vi_steps(budget, 10)
    cost = [sum(2 if step % 10 == 0 else 1 for step in range(count)) for count in (steps, steps + 1)]
    assert cost[0] <= budget < cost[1]


def test_verdicts_are_those_of_the_t_test() -> None:
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        differences = random.normal(random.normal(0, 2), 1, 3)
        significant = stats.ttest_1samp(differences, 0).pvalue < 0.05
        for metric, sign in (("nll", -1), ("accuracy", 1)):
            expected = "undecided" if not significant else "better" if sign * differences.mean() > 0 else "worse"
            assert report.verdict(differences, metric) == expected
            seen.add(expected)
    assert seen == {"undecided", "better", "worse"}


def test_paired_differences() -> None:
    def row(name: str, values: list[float]) -> list[dict]:
        return [{"figures": {name: value}} for value in values]

    rows = {
        "predictive": row("nll", [1.0, 3.0]),
        report.REFERENCE: row("nll", [2.0, 1.0]),
    }
    assert list(report.differences(rows, "predictive", "nll")) == [-1.0, 2.0]  # type: ignore[arg-type]
    assert report.differences(rows, "predictive", "ece") is None
    rows = {"predictive": row("ood_auroc_mi", [0.9, 0.8]), report.REFERENCE: row("ood_auroc", [0.5, 0.7])}
    found = report.differences(rows, "predictive", "ood_auroc_mi")
    assert found is not None and list(found) == pytest.approx([0.4, 0.1])


def test_refused_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, message in ((["--quick", "--seeds", "1"], "at least 2"), ([], "--data-dir")):
        with pytest.raises(SystemExit):
            calibration.main(argv)
        assert message in capsys.readouterr().err
