import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import beta, betabinom, binomtest, kstest

from hf_scorevi.conformal import METHODS, ConformalPredictor, evaluate_sets, fit_conformal

# A test of a true hypothesis fails once in 10,000 seeds; they are fixed.
SIGNIFICANCE = 1e-4


def two_class_task(rng, n):
    """Probabilities whose score 1 - p(label) is uniform: the coverage of a "lac" threshold is the threshold itself."""
    labels, scores = rng.integers(0, 2, n), rng.random(n)
    probabilities = np.empty((n, 2))
    probabilities[np.arange(n), labels], probabilities[np.arange(n), 1 - labels] = 1 - scores, scores
    return probabilities, labels


def honest_task(rng, n, classes=6):
    """Labels drawn from the probabilities themselves: the randomised "aps" score of a label is uniform."""
    probabilities = rng.dirichlet(np.full(classes, 0.5), n)
    labels = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return probabilities, labels


def overconfident_task(rng, n, classes=5):
    """A model that is too sure, and often wrong."""
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    exponentials = np.exp(4 * logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize(("method", "task"), [("lac", two_class_task), ("aps", honest_task)])
@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (50, 0.8), (200, 0.95)])
def test_coverage_given_the_calibration_follows_vovks_beta_distribution(method, task, n, coverage):
    rng = np.random.default_rng(0)
    # In both tasks the coverage of a threshold is the threshold.
    found = [fit_conformal(*task(rng, n), coverage, method, seed=i).threshold for i in range(400)]
    rank = int(np.ceil(round((n + 1) * coverage, 9)))
    expected = beta(rank, n + 1 - rank)
    assert kstest(found, expected.cdf).pvalue > SIGNIFICANCE
    assert np.mean(found) == pytest.approx(rank / (n + 1), abs=4 * expected.std() / 400**0.5)
    below = np.mean(np.array(found) < expected.ppf(0.1))
    assert below == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 400) ** 0.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_marginal_coverage_of_a_bad_model_is_as_promised(method, coverage):
    n, m, repetitions = 60, 40, 1000
    rng = np.random.default_rng(1)
    covered = []
    for i in range(repetitions):
        predictor = fit_conformal(*overconfident_task(rng, n), coverage, method, seed=i)
        probabilities, labels = overconfident_task(rng, m)
        covered.append(predictor.predict_sets(probabilities, seed=rng)[np.arange(m), labels].sum())
    rank = int(np.ceil(round((n + 1) * coverage, 9)))
    expected = betabinom(m, rank, n + 1 - rank)
    assert np.mean(covered) == pytest.approx(expected.mean(), abs=4 * expected.std() / repetitions**0.5)
    quantile = expected.ppf(0.1)
    share = expected.cdf(quantile)
    assert np.mean(np.array(covered) <= quantile) == pytest.approx(share, abs=4 * (share / repetitions) ** 0.5)


def test_the_threshold_of_lac_by_hand():
    p = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]
    # Scores 0.1, 0.2, 0.3, 0.6; ⌈5 · 0.6⌉ = 3.
    predictor = fit_conformal(p, [0, 0, 0, 0], coverage=0.6, method="lac")
    assert predictor.threshold == 1 - 0.7
    assert (predictor.num_examples, predictor.num_classes, predictor.coverage) == (4, 2, 0.6)
    sets = predictor.predict_sets([[0.7, 0.3], [0.69, 0.31], [0.0, 1.0]])
    assert sets.tolist() == [[True, False], [False, False], [False, True]]


def aps_set(row, uniform, threshold):
    """Romano et al.'s set by going down from the most probable class."""
    members, total = np.zeros(len(row), dtype=bool), 0.0
    for label in sorted(range(len(row)), key=lambda k: (-row[k], k)):
        members[label] = total + (1 - uniform) * row[label] <= threshold
        total += row[label]
    return members


def test_sets_of_aps_by_going_down_from_the_most_probable():
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet(np.ones(7), 300)
    probabilities[:3] = [[0.1] * 3 + [0.2] * 3 + [0.1], [1 / 7] * 7, [1] + [0] * 6]  # ties
    predictor = ConformalPredictor("aps", 0.8, 0.75, 99, 7)
    sets = predictor.predict_sets(probabilities, seed=5)
    uniforms = np.random.default_rng(5).random(300)
    for row, uniform, found in zip(probabilities, uniforms, sets, strict=True):
        np.testing.assert_array_equal(found, aps_set(row, uniform, 0.75))


def test_aps_randomises_the_last_class_alone():
    predictor = ConformalPredictor("aps", 0.8, 0.75, 99, 3)
    sets = predictor.predict_sets(np.tile([0.5, 0.35, 0.15], (4000, 1)), seed=0)
    assert sets[:, 0].all()
    assert not sets[:, 2].any()
    # The second is in if 0.85 - 0.35 u <= 0.75, of which the probability is 1 - 0.1 / 0.35.
    chance = 1 - 0.1 / 0.35
    assert sets[:, 1].mean() == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5)


def test_lac_has_the_smaller_sets_and_aps_the_more_even_coverage():
    rng = np.random.default_rng(3)
    tasks = []
    for _ in range(2):  # half of the examples are easy, the others nearly flat over ten classes
        easy = np.full((2000, 10), 0.05 / 9)
        easy[:, 0] = 0.95
        probabilities = np.concatenate([easy, rng.dirichlet(np.full(10, 20), 2000)])
        tasks.append((probabilities, (rng.random((4000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=9)))
    probabilities, labels = tasks[1]
    sizes, coverage_of_hard = {}, {}
    for method in METHODS:
        sets = fit_conformal(*tasks[0], 0.7, method).predict_sets(probabilities, seed=1)
        sizes[method] = evaluate_sets(sets, labels)["mean_size"]
        coverage_of_hard[method] = evaluate_sets(sets[2000:], labels[2000:])["coverage"]
    assert sizes["lac"] < sizes["aps"]
    # Of the others 0.45 makes it 0.7 in all; calibration and test each have a standard error of 0.01.
    assert coverage_of_hard["lac"] == pytest.approx(0.45, abs=0.06)
    assert coverage_of_hard["aps"] == pytest.approx(0.7, abs=0.06)


def test_a_model_that_is_always_sure_and_right_has_single_classes():
    probabilities, labels = np.eye(3)[[0, 1, 2] * 10], np.array([0, 1, 2] * 10)
    sets = fit_conformal(probabilities, labels, 0.9, "lac").predict_sets(probabilities)
    np.testing.assert_array_equal(sets, probabilities.astype(bool))


def test_a_model_that_is_always_sure_and_wrong_has_all_classes():
    probabilities = np.eye(3)[[0, 1, 2] * 10]
    sets = fit_conformal(probabilities, np.array([1, 2, 0] * 10), 0.9, "lac").predict_sets(probabilities)
    assert sets.all()


def test_more_coverage_has_larger_sets():
    rng = np.random.default_rng(4)
    calibration, (probabilities, _) = honest_task(rng, 300), honest_task(rng, 100)
    for method in METHODS:
        smaller, larger = (
            fit_conformal(*calibration, c, method).predict_sets(probabilities, seed=0) for c in (0.7, 0.9)
        )
        assert (smaller <= larger).all()
        assert (smaller < larger).any()


def test_seeds_repeat_sets_and_their_absence_does_not():
    rng = np.random.default_rng(5)
    calibration, (probabilities, _) = honest_task(rng, 300), honest_task(rng, 300)
    predictor = fit_conformal(*calibration, 0.7, "aps", seed=3)
    assert predictor == fit_conformal(*calibration, 0.7, "aps", seed=3)
    assert predictor != fit_conformal(*calibration, 0.7, "aps", seed=4)
    np.testing.assert_array_equal(
        predictor.predict_sets(probabilities, seed=1), predictor.predict_sets(probabilities, seed=1)
    )
    assert (predictor.predict_sets(probabilities) != predictor.predict_sets(probabilities)).any()


def test_one_generator_for_several_calls_gives_the_sets_of_one():
    rng = np.random.default_rng(6)
    calibration, (probabilities, _) = honest_task(rng, 300), honest_task(rng, 40)
    predictor = fit_conformal(*calibration, 0.7, "aps")
    generator = np.random.default_rng(9)
    parts = [predictor.predict_sets(probabilities[i : i + 10], generator) for i in range(0, 40, 10)]
    np.testing.assert_array_equal(np.concatenate(parts), predictor.predict_sets(probabilities, seed=9))


def test_scores_in_pieces_are_the_same(monkeypatch):
    rng = np.random.default_rng(7)
    calibration, (probabilities, _) = honest_task(rng, 50), honest_task(rng, 50)
    whole = fit_conformal(*calibration, 0.7, "aps")
    sets = whole.predict_sets(probabilities, seed=0)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert fit_conformal(*calibration, 0.7, "aps") == whole
    np.testing.assert_array_equal(whole.predict_sets(probabilities, seed=0), sets)


def test_takes_tensors_of_half_precision():
    rng = np.random.default_rng(8)
    probabilities, labels = honest_task(rng, 100)
    tensor = torch.tensor(probabilities).to(torch.bfloat16).float().log_softmax(-1).exp().half()
    predictor = fit_conformal(tensor, torch.tensor(labels), 0.8, "aps")
    assert predictor == ConformalPredictor.from_dict(json.loads(json.dumps(predictor.to_dict())))
    assert predictor.predict_sets(tensor).shape == (100, 6)


@pytest.mark.parametrize(("n", "coverage"), [(8, 0.9), (18, 0.95), (98, 0.99), (1, 0.6)])
def test_too_few_examples_are_named_with_how_many_it_takes(n, coverage):
    rng = np.random.default_rng(0)
    needed = {0.9: 9, 0.95: 19, 0.99: 99, 0.6: 2}[coverage]
    with pytest.raises(ValueError, match=f"a coverage of {coverage} needs at least {needed} examples, .* are {n}:"):
        fit_conformal(*two_class_task(rng, n), coverage)
    assert fit_conformal(*two_class_task(rng, needed), coverage).num_examples == needed


@pytest.mark.parametrize("coverage", [0, 1, 0.0, 1.0, -0.1, 90, True, float("nan"), "0.9", None])
def test_refuses_what_is_no_coverage(coverage):
    with pytest.raises(ValueError, match="coverage must be between 0 and 1"):
        fit_conformal([[0.5, 0.5]] * 20, [0] * 20, coverage)


def test_refuses_an_unknown_method_and_bad_probabilities():
    with pytest.raises(ValueError, match="method must be one of lac, aps, not 'raps'"):
        fit_conformal([[0.5, 0.5]] * 20, [0] * 20, method="raps")
    with pytest.raises(ValueError, match=r"row 0 of probabilities .* does not sum to one"):
        fit_conformal([[3.0, 2.0]] * 20, [0] * 20)
    predictor = fit_conformal([[0.5, 0.5]] * 20, [0] * 20)
    with pytest.raises(ValueError, match=r"row 0 of probabilities .* does not sum to one"):
        predictor.predict_sets([[3.0, 2.0]])
    with pytest.raises(ValueError, match=r"must have the shape \[examples, classes\]"):
        predictor.predict_sets(0.5)
    with pytest.raises(ValueError, match="probabilities are of 3 classes, the calibration of 2"):
        predictor.predict_sets([[0.2, 0.3, 0.5]])


GOOD = {"method": "aps", "coverage": 0.9, "threshold": 0.93, "num_examples": 100, "num_classes": 3}


def test_json_and_back():
    for method in METHODS:
        predictor = fit_conformal(*honest_task(np.random.default_rng(9), 100), 0.9, method)
        assert ConformalPredictor.from_dict(json.loads(json.dumps(predictor.to_dict()))) == predictor
    assert ConformalPredictor.from_dict(GOOD).to_dict() == GOOD


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "a conformal predictor must be an object, not None"),
        ([], "must be an object, not"),
        ({}, "'method' is missing in a conformal predictor"),
        (GOOD | {"more": 1}, "has the keys method, coverage, threshold, num_examples, num_classes, and not 'more'"),
        (GOOD | {"method": "x" * 10_000}, "method of a conformal predictor must be one of lac, aps"),
        (GOOD | {"method": ["lac"]}, "method of"),
        (GOOD | {"coverage": 1.0}, "coverage of"),
        (GOOD | {"coverage": 1}, "coverage of"),
        (GOOD | {"coverage": None}, "coverage of"),
        (GOOD | {"coverage": float("nan")}, "coverage of"),
        (GOOD | {"threshold": 1.5}, "threshold of"),
        (GOOD | {"threshold": -0.5}, "threshold of"),
        (GOOD | {"threshold": float("nan")}, "threshold of"),
        (GOOD | {"threshold": "0.5"}, "threshold of"),
        (GOOD | {"threshold": True}, "threshold of"),
        (GOOD | {"num_examples": 0}, "num_examples of"),
        (GOOD | {"num_examples": 100.0}, "num_examples of"),
        (GOOD | {"num_examples": 10**400}, "num_examples of"),
        (GOOD | {"num_examples": 8}, "a coverage of 0.9 needs at least 9 examples"),
        (GOOD | {"num_classes": 1}, "num_classes of"),
        (GOOD | {"num_classes": True}, "num_classes of"),
    ],
)
def test_refuses_what_is_no_predictor(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        ConformalPredictor.from_dict(values)
    assert len(str(caught.value)) < 200


def test_figures_of_sets_by_hand():
    sets = [[True, False, False], [True, True, False], [False, False, False], [False, True, True], [False, True, True]]
    found = evaluate_sets(sets, [0, 1, 2, 0, 1])
    interval = binomtest(3, 5).proportion_ci(method="wilson")
    assert found == {
        "coverage": 0.6,
        "coverage_low": pytest.approx(interval.low, abs=1e-6),
        "coverage_high": pytest.approx(interval.high, abs=1e-6),
        "mean_size": 1.4,
        "empty": 0.2,
        "singletons": 0.2,
        "num_examples": 5,
    }
    assert json.loads(json.dumps(found)) == found
    assert evaluate_sets(torch.tensor(sets), torch.tensor([0, 1, 2, 0, 1])) == found


@pytest.mark.parametrize(
    ("sets", "labels", "message"),
    [
        ([[0.5, 0.5]], [0], "sets must be booleans of the shape .* not float64"),
        ([True, False], [0], r"sets must be booleans of the shape .* not bool of the shape \[2\]"),
        (np.zeros((0, 3), dtype=bool), [], "sets must be booleans"),
        ([[True, False]], [0, 1], r"labels must be integers of the shape \[1\]"),
        ([[True, False]], [0.0], "labels must be integers"),
        ([[True, False]], [2], "labels are 2 to 2, outside the classes 0 to 1"),
        ([[True, False]], [-100], "labels are -100 to -100, outside"),
    ],
)
def test_refuses_what_are_no_sets(sets, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_sets(sets, labels)


def test_the_documentation_runs(capsys):
    rng = np.random.default_rng(10)
    parts = [SimpleNamespace(pixel_values=p, labels=y) for p, y in (honest_task(rng, 1000), honest_task(rng, 1000))]
    model = SimpleNamespace(predict=lambda pixel_values, num_samples, seed: SimpleNamespace(probs=pixel_values))
    names = {"model": model, "calibration": parts[0], "test": parts[1]}
    text = (Path(__file__).parents[1] / "docs" / "conformal.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "conformal.md", "exec"), names)
    assert "coverage_low" in capsys.readouterr().out
    assert evaluate_sets(names["sets"], parts[1].labels)["coverage"] == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize(("n", "deviation"), [(100, 0.03), (1000, 0.009)])
def test_the_spread_of_the_coverage_that_the_documentation_names(n, deviation):
    rank = int(np.ceil(round((n + 1) * 0.9, 9)))
    assert beta(rank, n + 1 - rank).std() == pytest.approx(deviation, rel=0.06)
