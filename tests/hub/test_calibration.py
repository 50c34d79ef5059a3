import json
import math

import numpy as np
import pytest

from hf_scorevi import PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import (
    CALIBRATION_NAME,
    POSTERIOR_CONFIG_NAME,
    Evaluation,
    StoredPosterior,
    add_evaluation,
    read_evaluations,
    save_posterior,
    write_evaluations,
)
from hf_scorevi.metrics import reliability_bins
from tests.tiny_models import tiny_vit

BINS = reliability_bins([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]], [0, 1, 1], num_bins=5)


def evaluation(dataset="user/data", **values) -> Evaluation:
    settings = dict(
        num_examples=3,
        num_samples=4,
        seed=0,
        metrics={"predictive": {"accuracy": 2 / 3, "nll": 0.8}, "mean": {"accuracy": 1.0, "nll": 0.1}},
        split="test",
        dataset_config="small",
        num_bins=5,
        by_num_samples=[{"num_samples": 1, "nll": 0.9}, {"num_samples": 4, "nll": 0.8}],
    )
    return Evaluation(dataset, **(settings | values))


@pytest.fixture
def folder(tmp_path):
    """What figures are tied to: the names of the files with the weights, and their hashes."""
    hashes = {"mean_sha256": {"model.safetensors": "12"}, "posterior_sha256": {"posterior.safetensors": "34"}}
    (tmp_path / POSTERIOR_CONFIG_NAME).write_text(json.dumps({"format_version": "1.2"} | hashes))
    return tmp_path


def stored(folder):
    return json.loads((folder / CALIBRATION_NAME).read_text())


def edit(folder, change):
    contents = stored(folder)
    change(contents)
    (folder / CALIBRATION_NAME).write_text(json.dumps(contents))


def test_what_is_written_is_read(folder):
    plain = Evaluation("Examples", 10, 16, 3, {"predictive": {"mse": 0.5}})
    of_tokens = evaluation("user/texts", num_terms=12345)
    write_evaluations(folder, [evaluation(), plain, of_tokens])
    assert read_evaluations(folder) == [evaluation(), plain, of_tokens]
    assert ["num_terms" in own for own in stored(folder)["evaluations"]] == [False, False, True]
    assert not list(folder.glob(".*.tmp"))


def test_bins_come_back_with_the_empty_ones(folder):
    write_evaluations(folder, [evaluation(reliability={"predictive": BINS, "mean": BINS})])
    (found,) = read_evaluations(folder)
    assert list(found.reliability) == ["predictive", "mean"]
    for name in ("edges", "counts", "mean_confidence", "accuracy"):
        np.testing.assert_array_equal(getattr(found.reliability["mean"], name), getattr(BINS, name))
    assert np.isnan(found.reliability["mean"].accuracy).any()


def test_no_evaluations_means_no_file(folder):
    assert read_evaluations(folder) == []
    write_evaluations(folder, [evaluation()])
    write_evaluations(folder, [])
    assert not (folder / CALIBRATION_NAME).exists()
    write_evaluations(folder, [])
    assert read_evaluations(folder) == []


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_figure_that_is_not_finite_is_null_in_the_file_and_nan_after_it(folder, value):
    given = evaluation(metrics={"predictive": {"accuracy": 0.5, "nll": value}}, by_num_samples=[])
    write_evaluations(folder, [given])
    assert stored(folder)["evaluations"][0]["metrics"] == {"predictive": {"accuracy": 0.5, "nll": None}}
    (found,) = read_evaluations(folder)
    assert found.metrics["predictive"]["accuracy"] == 0.5 and math.isnan(found.metrics["predictive"]["nll"])
    assert [r.metric_type for r in found.results(None)] == ["accuracy"]
    assert found.table()["rows"][0][2] == ["0.5000", "not finite"]


@pytest.mark.parametrize(("key", "file"), [("mean_sha256", "model"), ("posterior_sha256", "posterior")])
def test_figures_of_other_weights_are_left_out_with_a_warning(folder, caplog, key, file):
    write_evaluations(folder, [evaluation()])
    config = json.loads((folder / POSTERIOR_CONFIG_NAME).read_text())
    config[key][f"{file}.safetensors"] = "56"
    (folder / POSTERIOR_CONFIG_NAME).write_text(json.dumps(config))
    assert read_evaluations(folder) == []
    assert "has the figures of other weights" in caplog.text and "hf-scorevi evaluate" in caplog.text


def test_figures_follow_the_weights_of_a_real_checkpoint(saved):
    model, posterior, folder = saved
    write_evaluations(folder, [evaluation()])
    assert read_evaluations(folder) == [evaluation()]
    for _, _, value in posterior.state():
        value.mul_(2)
    config = PosteriorConfig(family=posterior.family.name)
    save_posterior(folder, model, posterior, StoredPosterior(config, num_data=50, temperature=0.1))
    assert read_evaluations(folder) == []


def test_a_later_minor_version_with_more_fields_is_read(folder):
    write_evaluations(folder, [evaluation()])
    edit(folder, lambda c: (c.update(format_version="1.9", more=1), c["evaluations"][0].update(more=[2])))
    assert read_evaluations(folder) == [evaluation()]


@pytest.mark.parametrize("version", ["2.0", None, 1.0, [1]])
def test_a_later_major_version_or_none_is_refused(folder, version):
    write_evaluations(folder, [evaluation()])
    edit(folder, lambda c: c.update(format_version=version))
    with pytest.raises(PosteriorCheckpointError, match=r"calibration\.json has format version .*Upgrade hf_scorevi"):
        read_evaluations(folder)


MISSING = object()
DAMAGES = {
    "missing": ("seed", MISSING, "'seed' is missing"),
    "null": ("num_examples", None, "num_examples must be a whole number from 1 to 9.22337e+18, not None"),
    "fraction": ("num_samples", 1.5, "num_samples must be a whole number from 1 to 9.22337e+18, not 1.5"),
    "boolean": ("num_bins", True, "num_bins must be a whole number from 1 to 9.22337e+18, not True"),
    "none of them": ("num_samples", 0, "num_samples must be a whole number from 1 to 9.22337e+18, not 0"),
    "no terms": ("num_terms", 0, "num_terms must be a whole number from 1 to 9.22337e+18, not 0"),
    "negative": ("seed", -1, "seed must be a whole number from 0 to 9.22337e+18, not -1"),
    "too large": ("seed", 2**63, "seed must be a whole number from 0 to 9.22337e+18, not 9223372036854775808"),
    "number for text": ("dataset", 7, "dataset must be a line of 1 to 200 characters, not 7"),
    "empty": ("dataset", " ", "dataset must be a line"),
    "two lines": ("dataset", "a\n# b", "dataset must be a line"),
    "right to left": ("split", "a\u202eb", "split must be a line"),
    "half a character": ("split", "\ud800", "split must be a line"),
    "endless": ("dataset_config", "x" * 201, "dataset_config must be a line"),
    "no figures": ("metrics", None, "metrics must be an object, not None"),
    "list of figures": ("metrics", [1], "metrics must be an object, not [1]"),
    "no predictive": ("metrics", {"mean": {"nll": 0.1}}, "'predictive' is missing in metrics"),
    "figures of a row": ("metrics", {"predictive": 0.1}, "metrics.predictive must be an object, not 0.1"),
    "text for a figure": ("metrics", {"predictive": {"nll": "0.1"}}, "nll must be a finite number, not '0.1'"),
    "boolean for a figure": ("metrics", {"predictive": {"nll": True}}, "nll must be a finite number, not True"),
    "list for a figure": ("metrics", {"predictive": {"nll": [1]}}, "nll must be a finite number, not [1]"),
    "name of a figure": ("metrics", {"predictive": {"a\tb": 1.0}}, "a name in metrics.predictive must be a line"),
    "name of a row": ("metrics", {"predictive": {}, "\n": {}}, "a name in metrics must be a line"),
    "draws no list": ("by_num_samples", {}, "by_num_samples must be a list, not {}"),
    "draws too many": (
        "by_num_samples",
        [{"num_samples": 1}] * 101,
        "by_num_samples must be a list of 0 to 100 entries, not of 101",
    ),
    "draws not numbered": ("by_num_samples", [{"nll": 1.0}], "'num_samples' is missing"),
    "draws by halves": (
        "by_num_samples",
        [{"num_samples": 1.5}],
        "num_samples must be a whole number from 1 to 9.22337e+18, not 1.5",
    ),
    "draws no object": ("by_num_samples", [1], "by_num_samples must be an object, not 1"),
    "bins": ("reliability", {"mean": {}}, "'edges' is missing in reliability bins"),
    "no bins": ("reliability", [], "reliability must be an object, not []"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_evaluation_that_is_none_is_refused(folder, damage):
    key, value, message = DAMAGES[damage]
    write_evaluations(folder, [evaluation()])

    def change(contents):
        if value is MISSING:
            del contents["evaluations"][0][key]
        else:
            contents["evaluations"][0][key] = value

    edit(folder, change)
    with pytest.raises(PosteriorCheckpointError, match=r"calibration\.json is damaged \(.*Delete it") as caught:
        read_evaluations(folder)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


@pytest.mark.parametrize("evaluations", [None, {}, "x", [None], ["x"], [[]], [7], [{}] * 101])
def test_a_list_of_evaluations_that_is_none_is_refused(folder, evaluations):
    write_evaluations(folder, [evaluation()])
    edit(folder, lambda c: c.update(evaluations=evaluations))
    with pytest.raises(PosteriorCheckpointError, match="is damaged"):
        read_evaluations(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": "1.0"', '{"a": NaN}', b"\xff{}"])
def test_a_file_that_is_no_json_object_is_refused(folder, text):
    (folder / CALIBRATION_NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PosteriorCheckpointError, match=r"calibration\.json"):
        read_evaluations(folder)


def test_a_number_of_any_length_is_refused():
    with pytest.raises(ValueError, match="nll must be a finite number, not 1000"):
        Evaluation.from_dict(evaluation().to_dict() | {"metrics": {"predictive": {"nll": 10**400}}})


@pytest.mark.parametrize("values", [{"dataset": "two\nlines"}, {"split": "x" * 201}, {"metrics": {}}])
def test_what_could_not_be_read_is_not_written_and_the_old_file_stays(folder, values):
    write_evaluations(folder, [evaluation()])
    with pytest.raises(ValueError, match=r"must be a line|'predictive' is missing"):
        write_evaluations(folder, [evaluation(**values)])
    assert read_evaluations(folder) == [evaluation()]


def test_figures_without_weights_are_not_written(tmp_path):
    tiny_vit().save_pretrained(tmp_path)
    with pytest.raises(PosteriorCheckpointError, match="holds no posterior"):
        write_evaluations(tmp_path, [evaluation()])
    assert not (tmp_path / CALIBRATION_NAME).exists()


def test_the_same_data_are_evaluated_once_and_in_their_place():
    first, other, later = evaluation(), evaluation("user/other"), evaluation(num_samples=64)
    assert add_evaluation([], first) == [first]
    assert add_evaluation([first, other], later) == [later, other]
    assert add_evaluation([first, other, first], later) == [later, other]
    for values in ({"split": "train"}, {"dataset_config": None}, {"dataset": "me/data"}):
        assert add_evaluation([first], evaluation(**values)) == [first, evaluation(**values)]


def test_a_title_has_what_is_known():
    assert evaluation().title == "user/data (small, test)"
    assert evaluation(split=None).title == "user/data (small)"
    assert evaluation(dataset_config=None, split=None).title == "user/data"


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("/home/me/pets", "pets"), ("/home/me/pets/", "pets"), ("~/pets default", "pets default"), ("./pets", "pets"),
        ("../my pets", "my pets"), (r"C:\Users\me\pets", "pets"), ("C:/pets", "pets"), ("data/mine/pets", "pets"),
        (r"data\pets", "pets"), ("/", "unnamed data"), ("user/data", "user/data"), ("a b/c d/e", "a b/c d/e"),
        ("Fashion-MNIST (test)", "Fashion-MNIST (test)"), ("cats/dogs at 50/50", "cats/dogs at 50/50"),
    ],
)  # fmt: skip
def test_of_a_path_only_the_last_part_is_told(folder, dataset, name):
    given = evaluation(dataset, split=None, dataset_config=None)
    assert given.title == name
    write_evaluations(folder, [given])
    assert stored(folder)["evaluations"][0]["dataset"] == name
    assert add_evaluation(read_evaluations(folder), given) == [given]


def test_results_are_all_figures_with_what_they_were_measured_by():
    metrics = {
        "predictive": {"ece": 0.2, "accuracy": 0.5, "unheard": 1.0},
        "mean": {"nll": 0.5},
        "other": {"nll": 1.0},
    }
    results = evaluation(metrics=metrics).results("image-classification")
    assert [(r.metric_args["weights"], r.metric_type, r.metric_value) for r in results] == [
        ("predictive", "accuracy", 0.5), ("predictive", "ece", 0.2), ("mean", "nll", 0.5)
    ]  # fmt: skip
    assert results[1].metric_args == {
        "library": "hf_scorevi", "weights": "predictive", "num_samples": 4, "seed": 0, "num_bins": 5
    }  # fmt: skip
    assert results[2].metric_args == {"library": "hf_scorevi", "weights": "mean"}
    assert {(r.task_type, r.dataset_type, r.dataset_name, r.dataset_config, r.dataset_split) for r in results} == {
        ("image-classification", "user/data", "user/data (small, test)", "small", "test")
    }
    assert {r.dataset_type for r in evaluation("my photos").results(None)} == {"unknown"}


def test_a_table_has_the_figures_that_both_rows_may_lack():
    metrics = {"predictive": {"brier": 0.25, "accuracy": 1.0}, "mean": {"accuracy": 0.5}}
    table = evaluation(metrics=metrics, by_num_samples=[], num_examples=12345).table()
    assert table["columns"] == ["accuracy", "Brier"] and table["num_examples"] == "12,345"
    assert [values for _, _, values in table["rows"]] == [["1.0000", "0.2500"], ["0.5000", "–"]]
    assert not table["is_binned"] and table["draw_rows"] == []
    assert evaluation().table()["draw_rows"] == [(1, ["0.9000"]), (4, ["0.8000"])]
    assert evaluation().table()["draw_columns"] == ["NLL"]
