import json
import math
import pickle
import sys

import numpy as np
import pytest

import hf_scorevi
from hf_scorevi import metrics
from hf_scorevi.metrics.loading import metric_folder, metric_names

evaluate = pytest.importorskip("evaluate")

pytestmark = pytest.mark.usefixtures("evaluate_caches")


@pytest.fixture
def inputs(make_predictions):
    """Of every kind of metric: predictions and, if there are any, references."""
    probabilities, labels = make_predictions(num_examples=60)
    human = np.random.default_rng(1).multinomial(10, probabilities) / 10
    draws = np.random.default_rng(2).dirichlet(np.ones(4), size=(60, 3))
    kinds = {
        "soft_nll": (probabilities, human),
        "soft_ece": (probabilities, human),
        "ood_detection": (probabilities.max(axis=1), labels % 2),
        "predictive_uncertainty": (draws,),
        **forecasts(np.random.default_rng(3)),
    }
    return lambda name: kinds.get(name, (probabilities, labels))


def forecasts(rng):
    samples, targets, scales = rng.normal(size=(60, 9)), rng.normal(size=60), rng.uniform(0.5, 2.0, size=60)
    gaussians = (samples, np.abs(rng.normal(size=(60, 9))), targets)
    return {
        "crps": (samples, targets),
        "crps_gaussian_mixture": gaussians,
        "mixture_nll": gaussians,
        "weighted_quantile_loss": (samples, targets),
        "interval_coverage": (samples, targets),
        "quantile_calibration_error": (samples, targets),
        "mse_mae": (samples, targets),
        "energy_score": (rng.normal(size=(60, 5, 3)), rng.normal(size=(60, 3))),
        "mase": (samples, targets, scales),
        "msis": (samples, targets, scales),
    }


NAMES = {
    "crps_gaussian_mixture": ("predictions", "standard_deviations", "references"),
    "mixture_nll": ("predictions", "standard_deviations", "references"),
    "mase": ("predictions", "references", "seasonal_errors"),
    "msis": ("predictions", "references", "seasonal_errors"),
}


def named(name, values):
    return dict(zip(NAMES.get(name, ("predictions", "references")), values, strict=False))


def same(value, expected):
    np.testing.assert_equal(value, expected)  # also of NaN
    assert value.keys() == expected.keys()


def test_there_is_a_folder_for_each_metric():
    names = metric_names()
    assert "ece" in names and "nll" in names
    for name in names:
        assert callable(getattr(metrics, name)), name
        assert name in metrics.__all__
        assert {path.name for path in metric_folder(name).iterdir()} >= {f"{name}.py", "README.md"}


@pytest.mark.parametrize("name", metric_names())
def test_gives_what_the_function_gives(name, inputs):
    values = inputs(name)
    expected = getattr(metrics, name)(*values)
    module = hf_scorevi.load_metric(name)
    assert isinstance(module, evaluate.Metric)
    same(module.compute(**named(name, values)), expected)
    for start in range(0, 60, 25):
        module.add_batch(**named(name, [value[start : start + 25] for value in values]))
    same(module.compute(), expected)


@pytest.mark.parametrize("name", metric_names())
def test_names_itself_and_its_source(name):
    module = hf_scorevi.load_metric(name)
    assert module.name == name
    assert module.description
    assert module.citation or name == "accuracy"
    assert f"hf_scorevi.metrics.{name}" in module.inputs_description


def test_functions_are_still_functions_afterwards():
    for name in metric_names():
        hf_scorevi.load_metric(name)
        assert callable(getattr(metrics, name))


@pytest.mark.parametrize("name", metric_names())
def test_float32_is_not_rounded_again(name, inputs):
    predictions, *references = inputs(name)
    values = [predictions.astype(np.float32), *references]
    expected = getattr(metrics, name)(*values)
    result = hf_scorevi.load_metric(name, keep_in_memory=True).compute(**named(name, values))
    for key, value in expected.items():
        assert result[key] == (pytest.approx(value, rel=1e-13) if isinstance(value, float) else value), key


def test_options_go_to_the_function(inputs):
    predictions, references = inputs("ece")
    module = hf_scorevi.load_metric("ece")
    result = module.compute(predictions=predictions, references=references, num_bins=7)
    assert result == metrics.ece(predictions, references, num_bins=7)
    with pytest.raises(TypeError, match="num_bin"):
        module.compute(predictions=predictions, references=references, num_bin=7)


def test_scores_are_given_for_all_examples(inputs):
    predictions, references = inputs("aurc")
    scores = np.random.default_rng(0).random(60)
    module = hf_scorevi.load_metric("aurc")
    for start in range(0, 60, 20):
        module.add_batch(predictions=predictions[start : start + 20], references=references[start : start + 20])
    assert module.compute(scores=scores) == metrics.aurc(predictions, references, scores)


def test_one_example_at_a_time(inputs):
    predictions, references = inputs("nll")
    module = hf_scorevi.load_metric("nll")
    for prediction, reference in zip(predictions, references, strict=True):
        module.add(prediction=prediction, reference=reference)
    assert module.compute() == metrics.nll(predictions, references)


def test_bad_input_is_the_functions_error():
    module = hf_scorevi.load_metric("ece")
    with pytest.raises(ValueError, match="row 1 of probabilities \\(sum 7\\) does not sum to one"):
        module.compute(predictions=[[0.2, 0.8], [3.0, 4.0]], references=[0, 1])


def test_evaluate_loads_the_folder_and_combines(inputs):
    predictions, references = inputs("ece")
    both = evaluate.combine([str(metric_folder("ece")), hf_scorevi.load_metric("nll"), str(metric_folder("mce"))])
    both.add_batch(predictions=predictions, references=references)
    result = both.compute()
    assert result["ece"] == metrics.ece(predictions, references)["ece"]
    assert result["nll"] == metrics.nll(predictions, references)["nll"]
    assert result["ece_num_bins"] == result["mce_num_bins"] == 15


def test_can_be_pickled(inputs):
    module = pickle.loads(pickle.dumps(hf_scorevi.load_metric("soft_ece")))
    same(module.compute(**named("soft_ece", inputs("soft_ece"))), metrics.soft_ece(*inputs("soft_ece")))


def test_infinity_comes_through():
    module = hf_scorevi.load_metric("nll")
    assert module.compute(predictions=[[0.0, 1.0]], references=[0])["nll"] == math.inf


def test_refuses_other_names():
    for name in ("f1", "", "../metrics/ece", "loading"):
        with pytest.raises(ValueError, match=r"there is no metric .*: the names are accuracy, .* ece,"):
            hf_scorevi.load_metric(name)
    with pytest.raises(TypeError):
        hf_scorevi.load_metric("ece", num_bins=10)  # that is for compute


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(ImportError, match='pip install "hf_scorevi\\[evaluate\\]"'):
        hf_scorevi.load_metric("ece")


def test_functions_need_neither_evaluate_nor_torch(run_python):
    code = """
        import sys, hf_scorevi.metrics as metrics
        metrics.ece([[0.2, 0.8]], [1])
        print(sorted({"evaluate", "torch", "datasets", "scipy"} & set(sys.modules)))
    """
    assert run_python(code).communicate()[0] == "[]\n"


@pytest.mark.slow
def test_two_processes(run_python, make_predictions, tmp_path):
    probabilities, labels = make_predictions(num_examples=101)
    np.savez(tmp_path / "predictions.npz", probabilities=probabilities, labels=labels)
    code = """
        import json, sys
        import numpy as np
        import hf_scorevi

        data, rank = np.load("predictions.npz"), int(sys.argv[1])
        module = hf_scorevi.load_metric(
            "ece", cache_dir="cache", num_process=2, process_id=rank, experiment_id="halves"
        )
        mine = np.array_split(np.arange(101), 2)[rank]
        for part in np.array_split(mine, 3):
            module.add_batch(predictions=data["probabilities"][part], references=data["labels"][part])
        print(json.dumps(module.compute(num_bins=10)))
    """
    processes = [run_python(code, str(rank), cwd=tmp_path) for rank in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert outputs[1] == "null\n"
    assert json.loads(outputs[0]) == metrics.ece(probabilities, labels, 10)


def test_says_which_way_each_figure_is_better():
    description = hf_scorevi.load_metric("aurc").description
    assert "aurc: lower is better." in description and "accuracy_rejection_auc: higher is better." in description
