"""`trainer/forecasting.py`, run as users run it, on small new models and series made here."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from transformers import EvalPrediction, Trainer

from hf_scorevi import BayesianModel, PosteriorConfig
from hf_scorevi.models.koopa import KoopaForPrediction
from hf_scorevi.time_series import SeriesProcessor, SlidingWindows, calendar_features
from trainer import _cli, _point_forecasts, _series_data, _series_model, forecasting
from trainer.forecasting import main

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "trainer" / "recipes"
FIGURES = ("mse", "mae", "nll", "crps", "coverage_90")
NEW = ["--context_length", "12", "--prediction_length", "4"]
KOOPA = ["--model_type", "koopa", "--model_config", '{"dynamic_dim": 4, "hidden_dim": 8, "num_blocks": 1}', *NEW]


def series() -> pd.DataFrame:
    """160 hours of two noisy waves in units of their own."""
    time, noise = np.arange(160), np.random.default_rng(0).normal(size=(160, 2))
    load = 100 + 10 * np.sin(2 * np.pi * time / 12) + 2 * noise[:, 0]
    wind = np.cos(2 * np.pi * time / 8) + 0.2 * noise[:, 1]
    return pd.DataFrame({"date": pd.date_range("2024-01-01", periods=160, freq="h"), "load": load, "wind": wind})


@pytest.fixture
def file(tmp_path: Path) -> str:
    series().to_csv(tmp_path / "series.csv", index=False)
    return str(tmp_path / "series.csv")


@pytest.fixture
def quick(tmp_path: Path) -> list[str]:
    """A short run of a model that is still to be named."""
    flags = ["--use_cpu", "--disable_tqdm", "True", "--max_steps", "6", "--save_strategy", "no"]
    return [*flags, "--eval_num_samples", "2", "--output_dir", str(tmp_path / "out")]


@pytest.fixture
def flags(file: str, quick: list[str]) -> list[str]:
    """A short run of a small Koopa."""
    return ["--train_file", file, *KOOPA, *quick]


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the program says when it gives up."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code != 0
    return f"{stop.value.code} {capsys.readouterr().err}"


def parse(*argv: str) -> tuple[Any, ...]:
    dataclasses = (
        _series_model.ModelArguments,
        _series_data.DataArguments,
        forecasting.PosteriorArguments,
        forecasting.TrainingArguments,
    )
    return _cli.parse(dataclasses, argv, "", "")


# Whole runs


def test_a_table_gives_a_posterior_and_its_scores(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = main(flags)
    out = tmp_path / "out"
    names = {f"{part}_{row}{name}" for part in ("eval", "test") for row in ("", "mean_") for name in FIGURES}
    assert names <= set(metrics) and all(math.isfinite(metrics[name]) for name in names)
    assert (metrics["eval_samples"], metrics["test_samples"]) == (16 - 4 + 1, 32 - 4 + 1)
    saved = json.loads((out / "all_results.json").read_text())
    assert saved["test_nll"] == metrics["test_nll"] and saved["train_samples"] == 112 - 16 + 1
    assert (out / "forecast.png").stat().st_size > 1000
    printed = capsys.readouterr().out.splitlines()
    tests = printed[next(i for i, line in enumerate(printed) if line.startswith("test ")) :]
    assert [float(value) for value in tests[1].split()[1:]] == [round(metrics[f"test_{name}"], 4) for name in FIGURES]

    # The mean's error, from what was saved, by hand: standardised by the 112 rows of training, the last 32 forecast.
    processor = SeriesProcessor.from_pretrained(out)
    values = series()[["load", "wind"]].to_numpy()
    assert processor.channels == ["load", "wind"] and processor.frequency == "h"
    np.testing.assert_allclose(processor.mean, values[:112].mean(0))
    np.testing.assert_allclose(processor.std, values[:112].std(0))
    scaled = ((values - values[:112].mean(0)) / values[:112].std(0)).astype(np.float32)
    pasts = torch.tensor(np.stack([scaled[i - 12 : i] for i in range(128, 157)]))
    futures = np.stack([scaled[i : i + 4] for i in range(128, 157)])
    with torch.no_grad():
        forecasts = KoopaForPrediction.from_pretrained(out).eval()(pasts).prediction_outputs.numpy()
    assert metrics["test_mean_mse"] == pytest.approx(((forecasts - futures) ** 2).mean(), rel=1e-4)
    assert metrics["test_mean_mae"] == pytest.approx(abs(forecasts - futures).mean(), rel=1e-4)

    model = BayesianModel.from_pretrained(out)
    assert model.posterior_config == PosteriorConfig()
    forecast = processor.inverse(model.forecast(past_values=pasts[:1], num_samples=2, seed=0))
    assert forecast.mean.shape == (1, 4, 2) and 50 < forecast.mean[..., 0].mean() < 150


def test_each_value_counts_once_in_the_likelihood(flags: list[str], tmp_path: Path) -> None:
    main([*flags, "--do_train", "--noise_variance", "channel"])
    stored = BayesianModel.from_pretrained(tmp_path / "out").stored
    assert stored.num_data == (112 - 12) * 2  # all training values but the first context
    assert stored.noise_variance.shape == (2,) and bool((stored.noise_variance > 0).all())


def test_the_baseline_has_the_noise_of_the_validation_residuals(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = main([*flags, "--baseline", "adamw", "--noise_variance", "model"])
    assert metrics["eval_mse"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
    variance = metrics["eval_mse"]  # the likeliest
    for part in ("eval", "test"):
        nll = 0.5 * math.log(2 * math.pi * variance) + 0.5 * metrics[f"{part}_mse"] / variance
        assert metrics[f"{part}_nll"] == pytest.approx(nll, rel=1e-4)
    assert "eval_mean_nll" not in metrics and "\nadamw " in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("posterior*"))
    assert SeriesProcessor.from_pretrained(tmp_path / "out").channels == ["load", "wind"]
    given = main([*flags, "--baseline", "adamw", "--noise_variance", "2.0"])
    assert given["test_nll"] == pytest.approx(0.5 * math.log(4 * math.pi) + given["test_mse"] / 4, rel=1e-4)


RNG = np.random.default_rng(0)
FORECASTS, OBSERVED, OTHERS = RNG.normal(size=(3, 50, 3, 2))
SCALE = RNG.uniform(0.5, 2, size=(50, 1, 2))
SQUARES = (FORECASTS - OBSERVED) ** 2
FLOORED = SCALE**2 + 0.3 * (SCALE**2).mean((0, 1))
VARIANCES = {
    "model": SQUARES.mean(),
    "channel": SQUARES.mean((0, 1)),
    "horizon": SQUARES.mean((0, 2))[:, None],
    "element": SQUARES.mean(0),
    "window": (SQUARES / FLOORED).mean((0, 2))[:, None] * FLOORED,
    2.5: 2.5,
}


@pytest.mark.parametrize("noise", list(VARIANCES))
def test_the_baselines_noise_is_what_was_asked_for(noise: str | float) -> None:
    metrics = _point_forecasts.PointForecastMetrics(noise)
    for fitting, observed in ((True, OBSERVED), (False, OTHERS)):
        metrics.fitting = fitting
        found = metrics(EvalPrediction((FORECASTS, SCALE), observed))
        z = (observed - FORECASTS) / np.sqrt(VARIANCES[noise])
        nll = np.mean(0.5 * np.log(2 * np.pi * VARIANCES[noise]) + 0.5 * z**2)
        assert found["nll"] == pytest.approx(nll, rel=1e-5)
        assert found["coverage_90"] == pytest.approx((abs(z) < scipy.stats.norm.ppf(0.95)).mean())
        assert found["mse"] == pytest.approx(((FORECASTS - observed) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_a_saved_run_can_be_evaluated_again(
    flags: list[str], file: str, quick: list[str], tmp_path: Path, baseline: list[str]
) -> None:
    trained = main([*flags, *baseline])
    kept = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.safetensors")}
    again = main(["--train_file", file, "--model_name_or_path", str(tmp_path / "out"), "--do_eval", *quick, *baseline])
    for name in FIGURES:
        assert again[f"test_{name}"] == pytest.approx(trained[f"test_{name}"], abs=1e-6)
    assert kept == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.safetensors")}


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    flags: list[str], tmp_path: Path, baseline: list[str]
) -> None:
    flags += [*baseline, "--save_strategy", "steps", "--save_steps", "2", "--do_train", "--halve_learning_rate"]
    main(flags)
    whole = tmp_path / "out"
    shutil.copytree(whole / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    main([*flags, "--output_dir", str(tmp_path / "resumed"), "--resume_from_checkpoint", "True"])
    files = list(whole.glob("*.safetensors"))
    assert len(files) == 2 - len(baseline) // 2
    for path in files:
        resumed = load_file(tmp_path / "resumed" / path.name)
        for key, value in load_file(path).items():
            assert torch.equal(resumed[key], value), key


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_training_stops_early_and_keeps_the_best(flags: list[str], tmp_path: Path, baseline: list[str]) -> None:
    # At this learning rate it only gets worse.
    steps = ["--eval_strategy", "steps", "--eval_steps", "2", "--max_steps", "40", "--learning_rate", "3"]
    main([*flags, *baseline, *steps, "--early_stopping_patience", "2", "--lr_scheduler_type", "constant"])
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
    best = min(losses, key=lambda step: losses[step])
    assert state["global_step"] == best + 4 < 40
    expected = load_file(tmp_path / "out" / f"checkpoint-{best}" / "model.safetensors")
    for key, value in load_file(tmp_path / "out" / "model.safetensors").items():
        assert torch.equal(value, expected[key]), key


def test_the_learning_rate_is_halved_after_each_epoch_but_the_first(flags: list[str], tmp_path: Path) -> None:
    steps = ["--max_steps", "-1", "--num_train_epochs", "4", "--logging_steps", "1", "--learning_rate", "0.004"]
    main([*flags, *steps, "--halve_learning_rate", "--baseline", "adamw", "--do_train"])
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    assert rates == pytest.approx([0.004] * 8 + [0.002] * 4 + [0.001] * 4)  # four steps an epoch


# Every kind of model


@pytest.mark.parametrize("kind", ["patchtst", "patchtsmixer", "time_series_transformer", "informer", "autoformer"])
@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_every_kind_of_model_is_trained(
    kind: str, file: str, quick: list[str], capsys: pytest.CaptureFixture[str], baseline: list[str]
) -> None:
    lagged = kind not in ("patchtst", "patchtsmixer")
    small: dict[str, Any] = {"d_model": 8}
    if lagged:
        small |= {"encoder_layers": 1, "decoder_layers": 1, "lags_sequence": [1, 2]}
    elif kind == "patchtst":
        small |= {"num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8}
    model = ["--model_type", kind, "--model_config", json.dumps(small), *NEW, "--max_steps", "2"]
    metrics = main(["--train_file", file, *quick, *model, *baseline, "--channels", "load"])
    assert math.isfinite(metrics["test_nll"])
    row = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adamw" if baseline else "mean")][
        -1
    ]
    assert (row.split()[1] == "-") == lagged  # a density has no error of its mean here
    if lagged and baseline:
        assert metrics["test_nll"] == metrics["test_loss"]


def test_a_head_with_a_distribution(file: str, quick: list[str]) -> None:
    small = {"d_model": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8, "loss": "nll"}
    model = ["--model_type", "patchtst", "--model_config", json.dumps(small), *NEW]
    metrics = main(["--train_file", file, *quick, *model, "--max_steps", "2"])
    assert math.isfinite(metrics["test_nll"]) and math.isfinite(metrics["test_mean_nll"])


def test_a_saved_model_is_trained_on_with_other_channels_or_lengths(
    flags: list[str], file: str, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*flags, "--do_train", "--baseline", "adamw"])
    shutil.move(tmp_path / "out", tmp_path / "model")
    more = ["--train_file", file, *quick, "--model_name_or_path", str(tmp_path / "model")]
    main([*more, "--do_train"])
    assert KoopaForPrediction.from_pretrained(tmp_path / "out").config.prediction_length == 4
    assert "--ignore_mismatched_sizes" in error_of(capsys, *more, "--channels", "load")
    main([*more, "--do_train", "--context_length", "16", "--channels", "load", "--ignore_mismatched_sizes"])
    config = KoopaForPrediction.from_pretrained(tmp_path / "out").config
    assert (config.context_length, config.input_size, config.dynamic_dim) == (16, 1, 4)
    mask = KoopaForPrediction.from_pretrained(tmp_path / "model").config.mask_spectrum
    assert len(config.mask_spectrum) == 1 and len(mask) == 1
    message = error_of(capsys, *more, "--do_eval", "--channels", "wind", "--baseline", "adamw")
    assert "forecasts load, wind, but the series has wind" in message


def test_time_features_are_those_of_the_calendar() -> None:
    frame = series()
    table = _series_data.read_table(frame)
    config = _series_model.make_config(
        _series_model.ModelArguments(model_type="informer"),
        _series_data.DataArguments(train_file="x", context_length=8, prediction_length=4),
        table,
        torch.zeros(112, 2),
        True,
    )
    args = _series_data.DataArguments(train_file="x")
    data = _series_data.make_windows(table, (112, 16, 32), SeriesProcessor.fit(table.values), config, args)
    window: SlidingWindows = data.windows["test"]
    start = 128 - 8 - 7  # the largest of Informer's lags is 7
    assert data.splits.test.start == start
    expected = calendar_features(frame["date"])[start : start + 15]
    np.testing.assert_allclose(window[0]["past_time_features"], expected, rtol=1e-6)


# Sources


def test_a_dataset_in_a_folder(file: str, quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    series().to_parquet(tmp_path / "data" / "train.parquet")
    metrics = main(["--dataset_name", str(tmp_path / "data"), *KOOPA, *quick, "--baseline", "adamw"])
    same = main(["--train_file", file, *KOOPA, *quick, "--baseline", "adamw"])
    assert metrics["test_mse"] == pytest.approx(same["test_mse"], rel=1e-5)


def test_a_run_is_pushed_with_its_origin(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, Any] = {}
    monkeypatch.setattr(Trainer, "init_hf_repo", lambda self, token=None: None)
    monkeypatch.setattr(forecasting.PointTrainer, "push_to_hub", lambda self, **card: pushed.update(card))
    main([*flags, "--baseline", "adamw", "--push_to_hub", "--hub_strategy", "end", "--do_train"])
    assert pushed["tasks"] == "time-series-forecasting" and pushed["dataset"] == "series"
    assert "finetuned_from" not in pushed  # a new model
    model = _series_model.ModelArguments(model_name_or_path="user/model")
    card = forecasting.card(model, _series_data.DataArguments(dataset_name="user/data"))
    assert (card["finetuned_from"], card["dataset"]) == ("user/model", "user/data")


@pytest.mark.parametrize(
    ("split", "length", "expected"),
    [
        (["0.7", "0.1", "0.2"], 966, (676, 97, 193)),
        (["0.8", "0.2", "0"], 10, (8, 2, 0)),
        (["8640", "2880", "2880"], 17420, (8640, 2880, 2880)),
        (["etth"], 17420, (8640, 2880, 2880)),
        (["ettm"], 69680, (34560, 11520, 11520)),
    ],
)
def test_parts_in_time(split: list[str], length: int, expected: tuple[int, int, int]) -> None:
    assert _series_data.part_rows(split, length) == expected


# Bad data


def changed(**columns: Any) -> pd.DataFrame:
    return series().assign(**columns)


def with_nan(rows: Any, column: str = "wind") -> pd.DataFrame:
    frame = series()
    frame.loc[rows, column] = np.nan
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (with_nan([40, 41]), "error: Values are missing in wind (2); the first in row 40, column 'wind'."),
        (with_nan(slice(150, None)), "missing in wind (10); the first in row 150"),  # in the test part alone
        (with_nan(slice(None)), "missing in wind (160)"),
        (changed(wind=np.where(np.arange(160) == 7, np.inf, 1.0)), "'wind' is infinite in row 7"),
        (changed(wind=["low"] * 160), "'wind' is not numeric: row 0 holds 'low'"),
        (series().iloc[::-1], "do not rise: row 1 (2024-01-07 14:00:00) is earlier than row 0"),
        (series().iloc[[*range(80), *range(79, 159)]], "comes twice: rows 79 and 80"),
        (series().drop(index=50), "gaps, or steps of different length: from row 49"),
        (series().iloc[:20], "14 time steps, fewer than the 16 of one window: 12 of context and 4 to forecast"),
        (series().iloc[:10], "The training part has 7 rows, fewer than the context_length 12"),
        (series().iloc[:0], "has no rows"),
    ],
)
def test_bad_data_are_named(
    quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], frame: pd.DataFrame, message: str
) -> None:
    frame.to_csv(tmp_path / "bad.csv", index=False)
    assert message in error_of(capsys, "--train_file", str(tmp_path / "bad.csv"), *KOOPA, *quick)


def test_a_table_is_read_as_it_is_written_or_as_the_flags_say(
    file: str, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = main(["--train_file", file, *KOOPA, *quick, "--do_train", "--do_eval"])
    frame = series()
    frame["date"] = frame["date"].dt.strftime("%d.%m.%Y %H:%M")
    frame.to_csv(tmp_path / "european.csv", sep=";", decimal=",", index=False)
    found = main(["--train_file", str(tmp_path / "european.csv"), *KOOPA, *quick, "--do_train", "--do_eval"])
    assert {name: found[name] for name in ("eval_mse", "test_nll")} == {
        name: expected[name] for name in ("eval_mse", "test_nll")
    }
    frame["date"] = pd.date_range("2024-01-01", periods=160, freq="min").strftime("%d.%m.%Y %H:%M")
    frame.replace({"date": {"01.01.2024": "02.01.2024"}}, regex=True).to_csv(tmp_path / "unclear.csv", index=False)
    unclear = ["--train_file", str(tmp_path / "unclear.csv"), *KOOPA, *quick, "--do_train"]
    with pytest.raises(SystemExit, match=r"may be 2024-01-02 .*Say which with dayfirst"):
        main(unclear)
    for flags in (["--dayfirst", "True"], ["--dayfirst", "False", "--separator", ",", "--decimal", "."]):
        main([*unclear, *flags])


@pytest.mark.parametrize("missing", ["ffill", "interpolate"])
def test_missing_values_are_filled_if_asked_for(quick: list[str], tmp_path: Path, missing: str) -> None:
    with_nan([40, 41, 130]).to_csv(tmp_path / "gaps.csv", index=False)
    metrics = main(["--train_file", str(tmp_path / "gaps.csv"), *KOOPA, *quick, "--missing", missing])
    assert math.isfinite(metrics["test_nll"])


def test_irregular_time_stamps_are_ignored_if_asked_for(quick: list[str], tmp_path: Path) -> None:
    frame = series().drop(index=50)
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    metrics = main(["--train_file", str(tmp_path / "gaps.csv"), *KOOPA, *quick, "--irregular", "warn"])
    assert math.isfinite(metrics["test_nll"])


@pytest.mark.parametrize("kind", ["koopa", "patchtst", "patchtsmixer", "informer"])
def test_a_constant_channel_gives_no_nan(
    kind: str, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_scorevi.time_series import processor

    warnings: list[str] = []
    monkeypatch.setattr(processor.logger, "warning", warnings.append)
    changed(wind=3.0).to_csv(tmp_path / "constant.csv", index=False)
    metrics = main(["--train_file", str(tmp_path / "constant.csv"), "--model_type", kind, *NEW, *quick])
    assert all(math.isfinite(value) for value in metrics.values())
    assert len(warnings) == 1 and "constant over the training data: wind" in warnings[0]
    stored = BayesianModel.from_pretrained(tmp_path / "out")
    assert all(torch.isfinite(p).all() for p in stored.model.parameters())


# The command line


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dataset_name", "user/data"], "different sources of data: give one of them"),
        (["--model_name_or_path", "user/model"], "give either --model_name_or_path, or --model_type"),
        (["--model_config", "{blocks"], "model_config is no JSON"),
        (["--model_config", "[1]"], "must be a JSON object"),
        (["--model_config", '{"blocks": 4}'], "KoopaConfig does not: blocks"),
        (["--model_config", '{"num_blocks": "many"}'], "There is no such model"),
        (["--prediction_length", "12"], "segment_length (12"),
        (["--channels", "load", "solar"], "no column 'solar'; its columns are date, load, wind"),
        (["--time_column", "clock"], "no column 'clock'"),
        (["--split", "0.5", "0.1"], "--split 0.5 0.1 is not understood"),
        (["--split", "0.5", "0.1", "0.1"], "three numbers with the sum 1"),
        (["--split", "100", "50", "50"], "three whole numbers of rows, of the 160"),
        (["--split", "etth"], "fewer than the 14400 of the ETT split"),
        (["--split", "1", "0", "0"], "nothing to evaluate on"),
        (["--split", "0.8", "0", "0.2", "--early_stopping_patience", "1"], "no validation part"),
        (["--stride", "0"], "stride must be at least 1"),
        (["--early_stopping_patience", "0"], "early_stopping_patience must be at least 1"),
        (["--missing", "zero"], "--missing: invalid choice: 'zero'"),
        (["--noise_variance", "loud"], "noise_variance must be a positive number or one of"),
        (["--baseline", "adamw", "--noise_variance", "loud"], "noise_variance must be a positive number or one of"),
        (["--do_eval"], "There is no model to evaluate"),
        (["--resume_from_checkpoint", "True"], "holds no checkpoint to resume from"),
    ],
)
def test_mistakes_are_named(
    flags: list[str], capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert message in error_of(capsys, *flags, *extra)


def test_mistakes_about_sources_are_named(
    quick: list[str], file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no data: give --train_file or --dataset_name" in error_of(capsys, *KOOPA, *quick)
    assert "There is no file 'gone.csv'" in error_of(capsys, *KOOPA, *quick, "--train_file", "gone.csv")
    assert "unknown kind" in error_of(capsys, *KOOPA, *quick, "--train_file", "series.xlsx")
    none = ["--dataset_name", str(tmp_path / "gone"), *KOOPA, *quick]
    assert "cannot be read" in error_of(capsys, *none)
    saved = ["--model_name_or_path", str(tmp_path), "--do_eval", "--train_file", file, *quick]
    assert "is no folder with a posterior" in error_of(capsys, *saved)


# The published numbers of parameters: github.com/thuml/Koopa's scripts at their shortest horizon.
@pytest.mark.parametrize(
    ("recipe", "channels", "parameters"),
    [
        ("koopa_etth1", 7, 567_808),
        ("koopa_etth2", 7, 567_808),
        ("koopa_exchange", 8, 694_960),
        ("koopa_ili", 7, 539_072),
        ("koopa_ecl", 321, 17_641_056),
        ("koopa_weather", 21, 238_112),
        ("koopa_traffic", 862, 22_314_448),
        ("patchtst_etth1", 7, None),
    ],
)
def test_the_recipes_that_come_along_are_valid(recipe: str, channels: int, parameters: int | None) -> None:
    model, data, posterior, training = parse(str(RECIPES / f"{recipe}.yaml"), "--use_cpu", "--train_file", "x.csv")
    assert posterior.config() == PosteriorConfig() and training.do_train and training.do_eval
    assert (training.load_best_model_at_end, training.eval_strategy) == (True, "epoch")
    assert (training.metric_for_best_model, training.greater_is_better) == ("mse", False)
    assert training.output_dir == f"outputs/{recipe}"
    table = _series_data.SeriesTable(np.zeros((20000, channels)), list(map(str, range(channels))), None, None)
    train = torch.randn(400, channels, generator=torch.Generator().manual_seed(0))
    config = _series_model.make_config(model, data, table, train, True)
    with torch.device("meta"):
        made = _series_model.load_model(model, config)
    if parameters is not None:
        assert sum(p.numel() for p in made.parameters()) == parameters
        assert (training.learning_rate, training.num_train_epochs, training.per_device_train_batch_size) == (
            1e-3, 10, 32
        )  # fmt: skip
        assert training.halve_learning_rate and training.early_stopping_patience == 3
    assert _series_data.part_rows(data.split, 20000)[0] == (8640 if "ett" in recipe else 14000)


def test_a_recipe_is_run(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model_type: koopa\nmodel_config: {num_blocks: 2}\nfamily: diagonal\n")
    main([str(tmp_path / "recipe.yaml"), *flags[:2], *NEW, *flags[flags.index("--use_cpu") :], "--do_train"])
    assert KoopaForPrediction.from_pretrained(tmp_path / "out").config.num_blocks == 2
    assert json.loads((tmp_path / "out" / "posterior_config.json").read_text())["posterior"]["family"] == "diagonal"


def test_it_is_a_program_of_its_own(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "trainer" / "forecasting.py"), "--help"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    headings = [line for line in done.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[1:3] == ["model:", "data:"] and headings[-1] == "examples:"
    assert "--prediction_length INT" in done.stdout and "default: None" not in done.stdout
