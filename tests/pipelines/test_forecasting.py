import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline

from hf_scorevi import BayesianModel, PosteriorConfig
from hf_scorevi.pipelines import ForecastingPipeline
from tests.forecasters import (
    CHANNELS,
    CONTEXT,
    HORIZON,
    bayesian,
    processor_of,
    series,
    tiny_koopa,
    tiny_patchtst,
    tiny_transformer,
    trained,
)
from tests.hub_server import HubServer, online
from tests.test_prediction import bayesian as bayesian_classifier
from tests.tiny_models import tiny_vit

TASK = "forecasting"
FRAME = series()
PROCESSOR = processor_of(FRAME[:90])
MODELS = {"koopa": tiny_koopa, "patchtst": tiny_patchtst}


def forecaster(model=None, noise_variance=0.04, processor=PROCESSOR, **kwargs):
    model = bayesian(model or tiny_koopa(), noise_variance)
    return pipeline(TASK, model=model, feature_extractor=processor, device="cpu", **kwargs)


def expected_of(model, frame=FRAME, **how):
    """By the model itself."""
    past = PROCESSOR(frame, context_length=CONTEXT)
    return PROCESSOR.inverse(model.forecast(**past, **({"num_samples": 16, "seed": 0} | how)))


def same(found, expected):
    for name in ("mean", "epistemic_std", "aleatoric_std"):
        values = expected.mean if name == "mean" else getattr(expected, name.replace("std", "variance")).sqrt()
        np.testing.assert_allclose(found[name], values[0], rtol=2e-5)
    assert tuple(found["quantiles"]) == expected.quantile_levels
    for level, values in zip(expected.quantile_levels, expected.quantiles, strict=True):
        np.testing.assert_allclose(found["quantiles"][level], values[0], rtol=2e-5)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_forecasts_in_the_units_of_the_series(make):
    pipe = forecaster(make())
    assert type(pipe) is ForecastingPipeline
    found = pipe(FRAME)
    same(found, expected_of(pipe.model))
    assert set(found) == {"mean", "quantiles", "epistemic_std", "aleatoric_std", "channels", "times"}
    assert found["channels"] == CHANNELS
    assert found["mean"].shape == found["quantiles"][0.05].shape == (HORIZON, 2)
    assert 400 < found["mean"][:, 0].mean() < 1600
    np.testing.assert_allclose(found["aleatoric_std"], np.tile(0.2 * np.array(PROCESSOR.std), (HORIZON, 1)), rtol=1e-6)
    assert list(found["times"]) == list(pd.date_range(FRAME.index[-1], periods=HORIZON + 1, freq="h")[1:])


@pytest.mark.parametrize(
    ("given", "has_times"),
    [
        (FRAME.to_numpy(), False),
        (FRAME.to_numpy().tolist(), False),
        (torch.tensor(FRAME.to_numpy()), False),
        (FRAME.reset_index(drop=True), False),
        (FRAME.iloc[:, ::-1].assign(other="text"), True),  # columns are found by name
        (FRAME.rename_axis("date").reset_index(), True),
        (FRAME[-CONTEXT:], True),
    ],
)
def test_a_series_in_any_form(given, has_times):
    pipe = forecaster()
    expected = pipe(FRAME)
    found = pipe(given)
    for name in ("mean", "epistemic_std", "aleatoric_std"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    assert (found["times"] is not None) == has_times


def test_a_single_channel_may_be_a_row_of_numbers():
    processor = processor_of(FRAME[["load (MW)"]])
    pipe = forecaster(tiny_koopa(1), processor=processor)
    expected = pipe(FRAME[["load (MW)"]])
    for given in (FRAME["load (MW)"], FRAME["load (MW)"].to_numpy(), FRAME["load (MW)"].tolist()):
        np.testing.assert_array_equal(pipe(given)["mean"], expected["mean"])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_several_series(batch_size):
    pipe = forecaster()
    parts = [FRAME[:40], FRAME[40:70], FRAME[70:]]
    expected = [pipe(part) for part in parts]
    for found in (pipe(parts, batch_size=batch_size), list(pipe((part for part in parts), batch_size=batch_size))):
        assert len(found) == 3
        for own, one in zip(found, expected, strict=True):
            np.testing.assert_allclose(own["mean"], one["mean"], rtol=1e-5)
            np.testing.assert_allclose(own["quantiles"][0.95], one["quantiles"][0.95], rtol=1e-5)
            assert list(own["times"]) == list(one["times"])
            assert own["channels"] == CHANNELS
    arrays = pipe(np.stack([part[-CONTEXT:] for part in parts]), batch_size=batch_size)
    np.testing.assert_allclose(arrays[1]["mean"], expected[1]["mean"], rtol=1e-5)
    assert arrays[1]["times"] is None


def test_settings_in_the_call_or_before():
    how = {"num_samples": 3, "seed": 5, "quantile_levels": (0.1, 0.9)}
    pipe = forecaster(**how)
    found = pipe(FRAME)
    same(found, expected_of(pipe.model, **how))
    again = forecaster()(FRAME, **how)
    np.testing.assert_array_equal(again["mean"], found["mean"])
    assert not np.array_equal(pipe(FRAME, seed=6)["mean"], found["mean"])
    with pytest.raises(TypeError, match="samples"):
        pipe(FRAME, samples=3)


@pytest.mark.parametrize("num_paths", [2, 4, 10])
def test_paths_are_those_of_different_draws_first(num_paths):
    pipe = forecaster(num_samples=4)
    found = pipe(FRAME, num_paths=num_paths)
    per_draw = -(-num_paths // 4)
    expected = expected_of(pipe.model, num_samples=4, paths_per_draw=per_draw).paths[:, 0]
    order = [draw * per_draw + i for i in range(per_draw) for draw in range(4)][:num_paths]
    np.testing.assert_allclose(found["paths"], expected[order], rtol=2e-5)
    assert np.isfinite(found["paths"]).all()
    np.testing.assert_array_equal(found["mean"], pipe(FRAME)["mean"])


def test_large_numbers_keep_their_digits():
    frame = FRAME / 1000 + 1e6  # a deviation of 0.2, where float32 has steps of 0.06
    processor = processor_of(frame)
    found = forecaster(processor=processor)(frame)
    past = processor(frame, context_length=CONTEXT)
    mean = forecaster().model.forecast(**past, num_samples=16, seed=0).mean[0].double().numpy()
    np.testing.assert_allclose(found["mean"] - 1e6, mean * processor.std + (np.array(processor.mean) - 1e6), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_head_that_models_a_distribution(channels):
    processor = processor_of(FRAME.iloc[:, :channels])
    pipe = forecaster(tiny_transformer(channels), None, processor)
    found = pipe(FRAME.iloc[:, :channels], num_samples=3)
    assert found["mean"].shape == (HORIZON, channels)
    assert np.isfinite(found["mean"]).all() and (found["aleatoric_std"] > 0).all()
    with_paths = pipe(FRAME.iloc[:, :channels], num_samples=3, num_paths=5)
    assert with_paths["paths"].shape == (5, HORIZON, channels)
    np.testing.assert_array_equal(with_paths["mean"], found["mean"])  # of as many paths as without
    with pytest.raises(ValueError, match="time stamps of equal steps"):
        pipe(FRAME.iloc[:, :channels].to_numpy())


def test_without_a_processor_a_series_is_taken_as_it_is(caplog):
    pipe = forecaster(processor=None)
    assert "taken as they are" in caplog.text
    found = pipe(PROCESSOR.standardize(FRAME))
    past = PROCESSOR(FRAME, context_length=CONTEXT)
    expected = pipe.model.forecast(**past, num_samples=16, seed=0)
    same(found, expected)
    assert found["channels"] == ["0", "1"]
    named = pipe((FRAME - PROCESSOR.mean) / PROCESSOR.std)
    assert named["channels"] == CHANNELS
    np.testing.assert_allclose(named["mean"], found["mean"], rtol=1e-4, atol=1e-5)


def with_gap():
    frame = FRAME.copy()
    frame.iloc[-2, 0] = np.nan
    return frame


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (FRAME[: CONTEXT - 1], "15 time steps, fewer than the context_length 16"),
        (with_gap(), r"1 values that are NaN.* in channel 'load \(MW\)' at time step 14"),
        (FRAME[["load (MW)"]], r"no column 'temperature \(°C\)'"),
        (FRAME.to_numpy()[:, :1], "2 channels"),
        (np.zeros((CONTEXT, 3)), "2 channels"),
        (np.zeros((2, 2, CONTEXT, 2)), "shape"),
        (FRAME.to_numpy()[:, 0].tolist(), "2 channels"),
        ([[1.0, 2.0], [3.0]], "nested list"),
        ([["a", "b"]] * CONTEXT, "nested list"),
        ([], "time steps, 2 channels"),
        (FRAME.drop(FRAME.index[-5]), "gaps"),
        (FRAME[::-1], "do not rise"),
    ],
)
def test_bad_series_are_refused_with_the_reason(given, message):
    with pytest.raises(ValueError, match=message):
        forecaster()(given)


def test_bad_series_without_a_processor_too():
    pipe = forecaster(processor=None)
    with pytest.raises(ValueError, match="3 columns, and the model forecasts 2 channels"):
        pipe(FRAME.assign(more=1.0))
    with pytest.raises(ValueError, match="NaN"):
        pipe(np.full((CONTEXT, 2), np.nan))


def test_missing_values_before_the_context_do_not_matter():
    frame = FRAME.copy()
    frame.iloc[:50] = np.nan
    np.testing.assert_array_equal(forecaster()(frame)["mean"], forecaster()(FRAME)["mean"])


def test_other_models_and_processors_are_refused():
    with pytest.raises(TypeError, match="needs a BayesianModel, not a KoopaForPrediction"):
        pipeline(TASK, model=tiny_koopa(), device="cpu")
    with pytest.raises(ValueError, match="is for forecasters, and the model predicts classes"):
        pipeline(TASK, model=bayesian_classifier(tiny_vit()), device="cpu")
    with pytest.raises(ValueError, match="SeriesProcessor of the model's 2 channels"):
        forecaster(processor=processor_of(FRAME[["load (MW)"]]))
    with pytest.raises(ValueError, match="num_paths must be at least 0, not -1"):
        forecaster()(FRAME, num_paths=-1)


# By name


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    """What a trainer leaves."""
    path = tmp_path_factory.mktemp(request.param)
    config = PosteriorConfig(noise_variance="channel")
    trained(MODELS[request.param](), path, config).save_model()
    return path


def test_from_a_trainer_s_folder(folder):
    found = pipeline(TASK, model=str(folder), device="cpu")(FRAME, num_samples=4, seed=1)
    model = BayesianModel.from_pretrained(folder)
    same(found, expected_of(model, num_samples=4, seed=1))
    assert found["channels"] == CHANNELS


def test_from_the_hub(folder, tmp_path):
    expected = pipeline(TASK, model=str(folder), device="cpu")(FRAME)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with HubServer() as hub, online(hub, tmp_path):
        hub.commit("user/rivers", files)
        found = pipeline(TASK, model="user/rivers", device="cpu")(FRAME)
        hub.commit("user/bare", {k: v for k, v in files.items() if k != "preprocessor_config.json"})
        bare = pipeline(TASK, model="user/bare", device="cpu")
        model = BayesianModel.from_pretrained("user/rivers")
        by_name = pipeline(TASK, model=model, feature_extractor="user/rivers", device="cpu")(FRAME)
    for own in (found, by_name):
        np.testing.assert_array_equal(own["mean"], expected["mean"])
        np.testing.assert_array_equal(own["quantiles"][0.05], expected["quantiles"][0.05])
    assert bare.feature_extractor is None


def test_a_saved_pipeline_is_loaded_as_it_was(folder, tmp_path):
    pipe = pipeline(TASK, model=str(folder), device="cpu")
    pipe.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.py"))
    assert "custom_pipelines" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    again = pipeline(TASK, model=str(tmp_path / "saved"), device="cpu")
    np.testing.assert_array_equal(again(FRAME)["mean"], pipe(FRAME)["mean"])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", "preprocessor_config.json"),
        ('{"feature_extractor_type": "ViTImageProcessor"}', "ViTImageProcessor"),
        ('{"feature_extractor_type": "SeriesProcessor", "channels": ["a"], "mean": [0], "std": [0]}', "std"),
        ('{"feature_extractor_type": "SeriesProcessor", "channels": ["a"], "mean": [0], "std": [1]}', "2 channels"),
        (
            '{"feature_extractor_type": "SeriesProcessor", "channels": ["a"], "mean": [1e999], "std": [1]}',
            "1e999 is no number",
        ),
        ('{"feature_extractor_type": "SeriesProcessor", "channels": "ab", "mean": [0], "std": [1]}', "channels"),
    ],
)
def test_a_damaged_processor_is_an_error_and_not_taken_for_none(tmp_path, contents, message):
    bayesian(tiny_koopa()).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(contents)
    with pytest.raises(Exception, match=message):
        pipeline(TASK, model=str(tmp_path), device="cpu")


def test_a_name_without_a_posterior_is_refused(tmp_path):
    tiny_patchtst().save_pretrained(tmp_path)
    with pytest.raises(Exception, match=r"no posterior|posterior_config"):
        pipeline(TASK, model=str(tmp_path), device="cpu")


def test_the_task_is_known_where_the_model_is():
    code = (
        "from hf_scorevi import BayesianModel; from transformers.pipelines import PIPELINE_REGISTRY as known; "
        "known.check_task('forecasting')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
