import json
import re

import numpy as np
import pandas as pd
import pytest
from transformers import PatchTSTForPrediction

from hf_scorevi import PosteriorConfig
from hf_scorevi.hub import POSTERIOR_CONFIG_NAME, Evaluation, write_card, write_evaluations
from hf_scorevi.hub.card_forecasts import describe_noise
from hf_scorevi.models.koopa import KoopaForPrediction
from tests.forecasters import CHANNELS, bayesian, processor_of, series, tiny_koopa, tiny_patchtst, tiny_transformer
from tests.hub.test_card import BAD, card_of, code, headings, settings, tables

FRAME = series()
COLUMNS = ["MSE", "MAE", "NLL", "CRPS", "50 % coverage", "80 % coverage", "90 % coverage", "95 % coverage"]
NAMES = ["mse", "mae", "nll", "crps", "coverage_50", "coverage_80", "coverage_90", "coverage_95"]
FIGURES = {
    "predictive": dict(zip(NAMES, [0.5, 0.4, 1.1, 0.3, 0.51, 0.79, 0.88, 0.94], strict=True)),
    "mean": dict(zip(NAMES, [0.6, 0.5, 1.3, 0.4, 0.41, 0.69, 0.78, 0.84], strict=True)),
}


def write(folder, model=None, noise_variance=0.04, processor=True, figures=FIGURES):
    model = model or tiny_koopa()
    drawn = [name for name, _ in model.named_parameters()][-2:]  # few tensors for the picture
    bayesian(model, noise_variance, drawn).save_pretrained(folder)
    if processor:
        processor_of(FRAME).save_pretrained(folder)
    if figures:
        write_evaluations(folder, [Evaluation("user/rivers", 285, 16, 0, figures, split="test")])
    return folder


def edit(folder, **values):
    path = folder / POSTERIOR_CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def names_after(block, **names):
    exec(block, names)
    return names


@pytest.mark.parametrize("make", [tiny_koopa, tiny_patchtst])
def test_figures_stand_in_the_table_and_in_the_metadata(tmp_path, make):
    card = card_of(write(tmp_path, make()), repo_id="me/rivers")
    assert headings(card.text)[1] == "Evaluation"
    assert "285 windows; 16 draws" in card.text
    assert tables(card.text)[0] == [
        ["", *COLUMNS],
        ["**posterior predictive**", *(f"{value:.4f}" for value in FIGURES["predictive"].values())],
        ["mean weights alone", *(f"{value:.4f}" for value in FIGURES["mean"].values())],
    ]
    results = {(r.metric_args["weights"], r.metric_type): r.metric_value for r in card.data.eval_results}
    assert results == {(row, name): value for row, own in FIGURES.items() for name, value in own.items()}
    assert {r.task_type for r in card.data.eval_results} == {"time-series-forecasting"}
    assert card.data.pipeline_tag == "time-series-forecasting"
    assert re.findall(r"!\[.*?\]\((.*?)\)", card.text) == ["coverage.png", "posterior.png"]
    assert "ECE" not in card.text and "probabilities" not in card.text


def test_what_it_forecasts_is_told(tmp_path):
    text = " ".join(card_of(write(tmp_path)).text.split())
    assert "forecasts 6 time steps of 2 channels (load (MW), temperature (°C)) from the 16 before them" in text
    assert "a time step is `h`" in text and "All are of standardised channels." in text
    assert "each observed number counts once" in text and "independent from step to step" in text
    text = " ".join(card_of(write(tmp_path / "bare", processor=False)).text.split())
    assert "forecasts 6 time steps of 2 channels from the 16 before them." in text
    assert "standardised" not in text


def test_a_forecaster_that_was_not_measured_says_so(tmp_path):
    text = card_of(write(tmp_path, figures=None), repo_id="me/rivers").text
    assert "`hf-scorevi evaluate me/rivers --dataset … --update-card` does it" in text
    assert "Whether the intervals can be relied on has not been measured" in text
    assert "](coverage.png)" not in text and not (tmp_path / "coverage.png").exists()


@pytest.mark.parametrize(("make", "plain"), [(tiny_koopa, KoopaForPrediction), (tiny_patchtst, PatchTSTForPrediction)])
def test_the_code_runs(tmp_path, monkeypatch, make, plain):
    write(tmp_path / "tiny", make())
    FRAME.to_csv(tmp_path / "recent.csv")
    monkeypatch.chdir(tmp_path)
    pipe, tensors, mean = code(card_of(tmp_path / "tiny", repo_id="tiny").text)
    found = names_after(pipe)["found"]
    assert list(found["times"]) == list(pd.date_range(FRAME.index[-1], periods=7, freq="h")[1:])
    assert found["channels"] == CHANNELS
    tensors = re.sub(r"^series = \.\.\..*", "series = frame", tensors, flags=re.MULTILINE)
    out = names_after(tensors, frame=FRAME)["out"]
    np.testing.assert_allclose(out.mean[0], found["mean"], rtol=2e-5)
    assert type(names_after(mean)["model"]) is plain


def test_the_code_without_a_processor_runs(tmp_path, monkeypatch):
    write(tmp_path / "tiny", tiny_patchtst(), processor=False)
    monkeypatch.chdir(tmp_path)
    tensors, _ = code(card_of(tmp_path / "tiny", repo_id="tiny").text)
    tensors = re.sub(
        r"^inputs = \.\.\..*", "inputs = processor(frame, context_length=16)", tensors, flags=re.MULTILINE
    )
    assert names_after(tensors, processor=processor_of(FRAME), frame=FRAME)["out"].mean.shape == (1, 6, 2)


def test_the_card_of_a_head_that_models_a_distribution(tmp_path, monkeypatch):
    figures = {row: {"nll": own["nll"]} for row, own in FIGURES.items()}
    write(tmp_path / "tiny", tiny_transformer(), None, figures=figures)
    FRAME.to_csv(tmp_path / "recent.csv")
    monkeypatch.chdir(tmp_path)
    card = card_of(tmp_path / "tiny", repo_id="tiny")
    assert tables(card.text)[0][0] == ["", "NLL"]
    assert "noise variance" not in settings(card.text) and "independent from step to step" not in card.text
    pipe, tensors, _ = code(card.text)
    assert names_after(pipe)["found"]["mean"].shape == (6, 2)
    assert "model's generate takes, as tensors, standardised" in tensors


# Noise


@pytest.mark.parametrize(
    ("config", "likelihood", "expected"),
    [
        (0.25, {"noise_variance": 0.25}, {"noise variance": 0.25}),
        ("auto", {"noise_variance": 0.25}, ("learned, one for all", "0.5")),
        ("model", {"noise_variance": 0.25}, ("learned, one for all", "0.5")),
        ("channel", {"noise_variance": [1.0, 0.25, 4.0]}, ("learned, one a channel", "0.5 to 2, median 1")),
        ("horizon", {"noise_variance": [[1.0], [4.0]]}, ("learned, one a step of the horizon", "1 to 2, median 1.5")),
        ("element", {"noise_variance": [[1.0, 1.0]]}, ("learned, one a step and channel", "1")),
        (
            "auto",
            {"noise_variance": 0.3, "window_noise": {"factor": [[0.25], [1.0]], "floor": [0.1]}},
            (
                "learned, proportional to the variance of the window that is forecast from",
                "0.5 to 1, median 0.75 of the window's",
            ),
        ),
        ("auto", {}, ("learned, one for all", None)),
    ],
)
def test_noise_is_told_with_its_standard_deviation(config, likelihood, expected):
    found = describe_noise({"posterior": {"noise_variance": config}, "likelihood": {"kind": "gaussian"} | likelihood})
    if isinstance(expected, tuple):
        expected = dict(zip(("noise variance", "standard deviation of the noise"), expected, strict=True))
    assert found == expected


def test_other_likelihoods_have_no_noise():
    assert describe_noise({"posterior": {"noise_variance": "auto"}, "likelihood": {"kind": "nll"}}) == {}
    assert describe_noise({}) == {}


def test_noise_stands_among_the_settings(tmp_path):
    write(tmp_path, noise_variance=[0.04, 0.09])
    assert settings(card_of(tmp_path).text)["standard deviation of the noise"] == "0.2 to 0.3, median 0.25"
    assert settings(card_of(tmp_path).text)["terms of the likelihood (N)"] == "100"


# What strangers wrote


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("key", ["noise_variance", "window_noise", "kind"])
def test_a_likelihood_with_anything_in_it_has_an_ordinary_card(tmp_path, key, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr("hf_scorevi.hub.card._draw", lambda folder, content: set())
    for value in [*BAD, {"factor": [["a"], None, [[1]]], "floor": 1}, [[True, -1.0], None, 2**62]]:
        edit(tmp_path, likelihood={"kind": "gaussian", "loss_scale": 1.0} | {key: value})
        assert headings(card_of(tmp_path).text)[2] == "The posterior"


@pytest.mark.parametrize("key", ["context_length", "prediction_length", "input_size", "lags_sequence", "model_type"])
def test_a_model_s_configuration_with_anything_in_it_has_an_ordinary_card(tmp_path, key, monkeypatch):
    write(tmp_path, processor=False)
    monkeypatch.setattr("hf_scorevi.hub.card._draw", lambda folder, content: set())
    config = json.loads((tmp_path / "config.json").read_text())
    for value in BAD:
        (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
        assert "time steps of" in card_of(tmp_path).text


def test_a_processor_with_anything_in_it_has_an_ordinary_card(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr("hf_scorevi.hub.card._draw", lambda folder, content: set())
    path = tmp_path / "preprocessor_config.json"
    contents = json.loads(path.read_text())
    lines = len(re.findall(r"^#", card_of(tmp_path).text, re.MULTILINE))
    for key in ("channels", "frequency", "feature_extractor_type", "mean"):
        for value in [*BAD, ["x" * 5000] * 50, ["<!-- hf_scorevi: end -->\n# a"]]:
            path.write_text(json.dumps(contents | {key: value}))
            card = card_of(tmp_path)
            assert len(re.findall(r"^#", card.text, re.MULTILINE)) in (
                lines,
                lines - 1,
            )  # without the pipeline's comment
            assert len(card.content) < 15_000
    path.write_text("{")
    assert "2 channels from the 16" in card_of(tmp_path).text


@pytest.mark.parametrize("name", ["coverage_0", "coverage_100", "coverage_x", "coverage_90"])
@pytest.mark.parametrize("value", [-1.0, 2.0, float("nan")])
def test_coverage_that_is_none_is_not_drawn(tmp_path, name, value):
    figures = {"predictive": {"mse": 1.0, name: value}, "mean": {"mse": 1.0}}
    card = card_of(write(tmp_path, figures=figures))
    assert "](coverage.png)" not in card.text


def test_pictures_of_figures_that_are_gone_are_gone(tmp_path):
    write_card(write(tmp_path))
    assert (tmp_path / "coverage.png").is_file()
    write_evaluations(tmp_path, [])
    write_card(tmp_path)
    assert not (tmp_path / "coverage.png").exists()


def test_a_given_noise_is_shown_as_it_was_given(tmp_path):
    write(tmp_path)
    config = json.loads((tmp_path / POSTERIOR_CONFIG_NAME).read_text())["posterior"]
    assert config["noise_variance"] == PosteriorConfig().noise_variance == "auto"
    edit(tmp_path, posterior=config | {"noise_variance": 0.5})
    assert settings(card_of(tmp_path).text)["noise variance"] == "0.5"
