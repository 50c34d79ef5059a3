"""`hf-scorevi evaluate`, `calibrate` and `predict` of images, texts, recordings and series."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertForSequenceClassification

from hf_scorevi import BayesianModel
from hf_scorevi.cli import main
from hf_scorevi.evaluation import evaluate as measured
from hf_scorevi.hub import read_evaluations, read_recalibration
from hf_scorevi.metrics import classification_metrics
from hf_scorevi.time_series import SeriesProcessor, windows_for
from tests.cli.helpers import REPO, commits, error_of, seed_repo, tree, usage_error_of
from tests.forecasters import bayesian as bayesian_forecaster
from tests.forecasters import processor_of, series, tiny_koopa
from tests.hub_server import HubServer
from tests.pictures import save_pictures
from tests.sounds import PITCHES, extractor, save_sounds, sound, tiny_ast
from tests.test_prediction import bayesian
from tests.text import tiny_bert, tokenizer

TEXTS = ["the film was good .", "a bad book", "lisbon is fine", "ada", "in the film", "the book was bad"]
LABELS = ["good", "bad", "fine", "good", "bad", "bad"]
UNCERTAINTIES = ("entropy", "expected_entropy", "mutual_information")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A classifier of texts."""
    bayesian(tiny_bert()).save_pretrained(tmp_path / "texts")
    tokenizer().save_pretrained(tmp_path / "texts")
    return tmp_path / "texts"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    bayesian(tiny_ast()).save_pretrained(tmp_path / "recordings")
    extractor().save_pretrained(tmp_path / "recordings")
    return tmp_path / "recordings"


@pytest.fixture
def forecaster(tmp_path: Path) -> Path:
    bayesian_forecaster(tiny_koopa(), 0.04).save_pretrained(tmp_path / "forecaster")
    processor_of(series()[:90]).save_pretrained(tmp_path / "forecaster")
    return tmp_path / "forecaster"


def table(path: Path, **columns: list[Any]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def run(*argv: object) -> int:
    return main([*map(str, argv), "--use-cpu"])


def figures(labels: list[int], output: Any) -> dict[str, float]:
    found = classification_metrics(output.probs.numpy(), np.array(labels))
    del found["ece_bins"]
    return found


def of_texts(model: BayesianModel, *columns: list[str], **how: Any) -> Any:
    inputs = tokenizer()(*columns, return_tensors="pt", padding=True, truncation=True)
    return model.predict(**inputs, **({"num_samples": 16, "seed": 0} | how))


# Measuring and calibrating


def test_texts_are_measured_and_the_predictive_recalibrated(
    hub: HubServer, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, seen = BayesianModel.from_pretrained(texts), table(tmp_path / "seen.csv", sentence=TEXTS, labels=LABELS)
    codes = [model.config.label2id[label] for label in LABELS]
    assert run("evaluate", texts, "--dataset", seen, "--batch-size", 4, "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())["metrics"]
    for row in ("predictive", "mean"):
        assert found[row] == pytest.approx(figures(codes, of_texts(model, TEXTS, use_mean=row == "mean")), abs=1e-5)
    pairs = table(tmp_path / "pairs.csv", one=TEXTS, two=TEXTS[::-1], kind=LABELS)
    columns = ["--text-column", "one", "--text-pair-column", "two", "--label-column", "kind"]
    assert (
        run("evaluate", texts, "--dataset", pairs, *columns, "--json", tmp_path / "b.json", "--plots", tmp_path) == 0
    )
    assert (tmp_path / "reliability.png").is_file()
    found = json.loads((tmp_path / "b.json").read_text())["metrics"]["predictive"]
    assert found == pytest.approx(figures(codes, of_texts(model, TEXTS, TEXTS[::-1])), abs=1e-5)

    seed_repo(hub, texts)
    assert run("calibrate", REPO, "--dataset", seen, "--num-samples", 4) == 0
    assert commits(hub)[0] == "Recalibrated on seen.csv" and "calibration.json" in tree(hub)
    assert BayesianModel.from_pretrained(REPO).recalibration.temperature != 1  # type: ignore[union-attr]
    assert "was recalibrated on (seen.csv)" in error_of(capsys, "evaluate", REPO, "--dataset", seen, "--use-cpu")


def test_a_regression_on_texts_is_measured(tmp_path: Path) -> None:
    model = bayesian(tiny_bert(id2label={0: "score"}, label2id={"score": 0}), noise_variance=0.5)
    model.save_pretrained(tmp_path / "texts")
    tokenizer().save_pretrained(tmp_path / "texts")
    numbers = [0.5, -1.0, 2.0, 0.0, 1.0, 3.0]
    file = table(tmp_path / "rows.csv", text=TEXTS, label=numbers)
    assert run("evaluate", tmp_path / "texts", "--dataset", file, "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())["metrics"]["predictive"]
    errors = of_texts(model, TEXTS).mean[:, 0] - torch.tensor(numbers)
    assert found["mse"] == pytest.approx(errors.square().mean().item(), rel=1e-4)


def test_recordings_are_measured_and_the_predictive_recalibrated(recordings: Path, tmp_path: Path) -> None:
    save_sounds(tmp_path / "sounds", 2)
    model, names = BayesianModel.from_pretrained(recordings), list(PITCHES)
    assert run("evaluate", recordings, "--dataset", tmp_path / "sounds", "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())
    codes = [names.index(name) for name in sorted(names) for _ in range(2)]
    samples = [sound(label, i % 2) for i, label in enumerate(codes)]
    inputs = extractor()(samples, sampling_rate=16000, return_tensors="pt")
    expected = figures(codes, model.predict(**inputs, num_samples=16, seed=0))
    assert found["metrics"]["predictive"] == pytest.approx(expected, abs=1e-3)  # of 16 bits a sample
    assert found["dataset"] == "sounds"
    assert run("calibrate", recordings, "--dataset", tmp_path / "sounds", "--num-samples", 2) == 0
    assert read_recalibration(recordings) is not None


def test_forecasts_are_measured(forecaster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, processor = BayesianModel.from_pretrained(forecaster), SeriesProcessor.from_pretrained(forecaster)
    frame = pd.DataFrame(np.asarray(series()), columns=processor.channels)
    frame.to_csv(tmp_path / "series.csv", index=False)
    how = ["--dataset", tmp_path / "series.csv", "--stride", 3, "--num-samples", 4]
    assert run("evaluate", forecaster, *how, "--json", tmp_path / "a.json", "--update-card") == 0
    data = windows_for(model.config, processor.standardize(frame.to_numpy()), stride=3)
    expected = measured(model, data, num_samples=4, use_cpu=True)
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["num_examples"] == len(data) > 3
    for row, own in expected.metrics.items():
        assert found["metrics"][row] == pytest.approx(own, rel=1e-4)
    assert read_evaluations(forecaster)[0].dataset == "series.csv"
    assert run("evaluate", forecaster, *how, "--max-examples", 2) == 0
    assert "series.csv (2 windows drawn with seed 0): 2 examples, 4 draws" in capsys.readouterr().out
    assert "are for classifiers" in error_of(capsys, "evaluate", forecaster, *how, "--plots", tmp_path / "plots")
    assert "predicts forecasts" in error_of(capsys, "calibrate", forecaster, *how[:2], "--use-cpu")


def test_an_adapter_takes_the_tokenizer_of_its_base(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bert().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    hub.commit("user/base", {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()})
    base = BertForSequenceClassification.from_pretrained("user/base")
    model = bayesian(get_peft_model(base, LoraConfig(r=2, target_modules=["query"])))
    model.save_pretrained(tmp_path / "adapter")
    file = table(tmp_path / "rows.csv", text=TEXTS, label=LABELS)
    assert run("evaluate", tmp_path / "adapter", "--dataset", file) == 0
    seed_repo(hub, tmp_path / "adapter")
    assert run("evaluate", REPO, "--dataset", file, "--json", tmp_path / "a.json") == 0
    codes = [model.config.label2id[label] for label in LABELS]
    found = json.loads((tmp_path / "a.json").read_text())["metrics"]["predictive"]
    assert found == pytest.approx(figures(codes, of_texts(model, TEXTS)), abs=1e-5)


def test_a_tokenizer_that_is_missing_is_asked_for(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (texts / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    own = ["evaluate", texts, "--dataset", table(tmp_path / "rows.csv", text=TEXTS, label=LABELS), "--use-cpu"]
    message = error_of(capsys, *own)
    assert "texts has no tokenizer that can be loaded" in message and "Give --tokenizer a repository or" in message
    (tmp_path / "other").mkdir()
    (tmp_path / "tokenizer.json").rename(tmp_path / "other" / "tokenizer.json")
    (texts / "tokenizer_config.json").rename(tmp_path / "other" / "tokenizer_config.json")
    assert main([*map(str, own), "--tokenizer", str(tmp_path / "other")]) == 0


# Predicting


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_classes(rows: list[dict[str, Any]], output: Any, names: dict[int, str], tolerance: float = 1e-5) -> None:
    assert len(rows) == len(output.probs)
    for i, row in enumerate(rows):
        best = output.probs[i].argsort(descending=True).tolist()
        assert row["label"] == names[best[0]]
        assert float(row["probability"]) == pytest.approx(output.probs[i].max().item(), abs=tolerance)
        for name in UNCERTAINTIES:
            assert float(row[name]) == pytest.approx(getattr(output, name)[i].item(), abs=tolerance)
        others = row["top"][1:] if "top" in row else [{"label": row[f"label_{k}"]} for k in (2, 3)]
        assert [own["label"] for own in others] == [names[k] for k in best[1:]]


def test_classes_of_texts_are_written(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, names = BayesianModel.from_pretrained(texts), {0: "good", 1: "bad", 2: "fine"}
    lines = [*TEXTS[:2], "", 'ada, "in" lisbon']
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    output = of_texts(model, lines, num_samples=4, seed=2)
    for file in (tmp_path / "a.csv", tmp_path / "a.jsonl"):
        how = ["--output", file, "--num-samples", 4, "--seed", 2, "--batch-size", 3]
        assert run("predict", texts, tmp_path / "lines.txt", *how) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"4 rows in {file}"
        rows = read(file)
        assert [row["text"] for row in rows] == lines
        check_classes(rows, output, names)
    pairs = table(tmp_path / "pairs.csv", one=TEXTS, two=TEXTS[::-1])
    how = ["--text-column", "one", "--text-pair-column", "two", "--output", tmp_path / "b.jsonl", "--top-k", 3]
    assert run("predict", texts, pairs, *how) == 0
    rows = read(tmp_path / "b.jsonl")
    assert [(row["text"], row["text_pair"]) for row in rows] == list(zip(TEXTS, TEXTS[::-1], strict=True))
    check_classes(rows, of_texts(model, TEXTS, TEXTS[::-1]), names)


def test_classes_of_images_and_recordings_are_written(folder: Path, recordings: Path, tmp_path: Path) -> None:
    save_pictures(tmp_path / "photos", 2)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("no picture")
    one = tmp_path / "photos" / "dog" / "0.png"
    assert run("predict", folder, tmp_path / "photos", one, "--output", tmp_path / "a.csv") == 0
    rows = read(tmp_path / "a.csv")
    assert [row["file"] for row in rows] == [*map(str, sorted((tmp_path / "photos").rglob("*.png"))), str(one)]
    assert sum(row["label"] == Path(row["file"]).parent.name for row in rows) >= 6  # it was trained on such pictures
    save_sounds(tmp_path / "sounds", 1)
    assert run("predict", recordings, tmp_path / "sounds", "--output", tmp_path / "b.csv") == 0
    model = BayesianModel.from_pretrained(recordings)
    labels = [list(PITCHES).index(name) for name in sorted(PITCHES)]
    inputs = extractor()([sound(label, 0) for label in labels], sampling_rate=16000, return_tensors="pt")
    output = model.predict(**inputs, num_samples=16, seed=0)
    check_classes(read(tmp_path / "b.csv"), output, dict(enumerate(PITCHES)), 1e-3)


def test_numbers_are_written(tmp_path: Path) -> None:
    model = bayesian(tiny_bert(id2label={0: "score"}, label2id={"score": 0}), noise_variance=0.5)
    model.save_pretrained(tmp_path / "texts")
    tokenizer().save_pretrained(tmp_path / "texts")
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS))
    how = ["--quantiles", 0.1, 0.9, "--output", tmp_path / "a.jsonl"]
    assert run("predict", tmp_path / "texts", tmp_path / "lines.txt", *how) == 0
    output = of_texts(model, TEXTS, quantile_levels=(0.1, 0.9))
    for i, row in enumerate(read(tmp_path / "a.jsonl")):
        assert row["mean"] == pytest.approx(output.mean[i, 0].item(), abs=1e-5)
        assert row["aleatoric_std"] == pytest.approx(0.5**0.5, abs=1e-5)
        assert row["epistemic_std"] == pytest.approx(output.epistemic_variance[i, 0].sqrt().item(), abs=1e-4)
        assert [row["quantile_0.1"], row["quantile_0.9"]] == pytest.approx(
            output.quantiles[:, i, 0].tolist(), abs=1e-3
        )


def test_forecasts_are_written_by_step_and_channel(forecaster: Path, tmp_path: Path) -> None:
    model, processor = BayesianModel.from_pretrained(forecaster), SeriesProcessor.from_pretrained(forecaster)
    values = np.asarray(series())
    times = pd.date_range("2024-01-01", periods=len(values), freq="h")
    pd.DataFrame(values, index=times, columns=processor.channels).to_csv(tmp_path / "load.csv", index_label="date")
    assert run("predict", forecaster, tmp_path / "load.csv", "--output", tmp_path / "a.csv", "--num-samples", 4) == 0
    rows = read(tmp_path / "a.csv")
    past = processor.standardize(values[-model.config.context_length :])[None]
    output = processor.inverse(model.forecast(past_values=torch.as_tensor(past).float(), num_samples=4, seed=0))
    steps, channels = output.mean.shape[1:]
    assert len(rows) == steps * channels
    for i, row in enumerate(rows):
        step, channel = divmod(i, channels)
        assert (row["step"], row["channel"]) == (str(step + 1), processor.channels[channel])
        assert row["time"] == (times[-1] + pd.Timedelta(hours=step + 1)).isoformat()
        assert float(row["mean"]) == pytest.approx(output.mean[0, step, channel].item(), rel=1e-4)
        assert float(row["quantile_0.95"]) == pytest.approx(output.quantiles[-1, 0, step, channel].item(), rel=1e-3)


def test_mistakes_are_named(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines.txt").write_text("")
    own = ["predict", texts, tmp_path / "lines.txt", "--output"]
    assert "must end in .csv or .jsonl" in usage_error_of(capsys, *own, tmp_path / "a.xlsx")
    assert "its folder is missing" in usage_error_of(capsys, *own, tmp_path / "no" / "a.csv")
    ours = [*own, tmp_path / "a.csv"]
    assert "must be a number between 0 and 1" in usage_error_of(capsys, *ours, "--quantiles", "2")
    assert "the data set is empty" in error_of(capsys, *ours)
    assert "There is no file" in error_of(capsys, "predict", texts, tmp_path / "gone.txt", "--output", ours[-1])
    rows = table(tmp_path / "rows.csv", words=TEXTS)
    assert "no column 'text' or 'sentence'" in error_of(capsys, "predict", texts, rows, "--output", ours[-1])
    (tmp_path / "lines.txt").write_text("ada")
    extended = tokenizer()
    extended.add_tokens(["odd"])
    extended.save_pretrained(tmp_path / "other")
    (tmp_path / "lines.txt").write_text("odd")
    message = error_of(capsys, *ours, "--tokenizer", tmp_path / "other", "--use-cpu")
    assert "The tokenizer does not fit the model" in message and "Give --tokenizer" in message
    assert not (tmp_path / "a.csv").exists()
