"""Forecasters over the Hub, with their noise."""

import json
import re
import shutil

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForTimeSeriesPrediction, PatchTSTForPrediction

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import POSTERIOR_CONFIG_NAME
from hf_scorevi.models import AutoModelForForecasting
from hf_scorevi.models.koopa import KoopaForPrediction
from hf_scorevi.time_series import SeriesProcessor
from tests.forecasters import CONTEXT, bayesian, processor_of, series, tiny_koopa, tiny_patchtst, trained
from tests.hub_server import HubServer, online, run_client

REPO = "user/rivers"
FRAME = series()
PAST = processor_of(FRAME[:90])(FRAME, context_length=CONTEXT)["past_values"]

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


@pytest.fixture
def hub(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"):
        yield hub


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved")
    bayesian(tiny_koopa()).save_pretrained(path)
    return path


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A forecaster's, to be damaged."""
    return shutil.copytree(saved, tmp_path / "own")


def same(one, other, tolerance=0.0):
    """Weights and noise are the same bits; so are forecasts of two that were loaded, whose memory is aligned alike."""
    for own, others in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(own, others)
    for (_, _, own), (_, _, others) in zip(one.posterior.state(), other.posterior.state(), strict=True):
        assert torch.equal(own, others)
    assert one.stored.likelihood == other.stored.likelihood
    assert torch.equal(one.stored.noise_variance, other.stored.noise_variance)
    assert one.stored.num_data == other.stored.num_data
    for use_mean in (False, True):
        found, expected = (
            m.forecast(past_values=PAST, num_samples=3, seed=7, use_mean=use_mean) for m in (one, other)
        )
        for name, values in expected.examples_first().items():
            assert values.isfinite().all()
            torch.testing.assert_close(found.examples_first()[name], values, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("make", "noise_variance"),
    [
        (tiny_koopa, "auto"),
        (tiny_koopa, "element"),
        (tiny_koopa, 0.3),
        (tiny_patchtst, "auto"),
        (tiny_patchtst, "channel"),
        (tiny_patchtst, "horizon"),
    ],
)
def test_pushed_by_the_trainer_and_by_the_model_and_pulled(hub, tmp_path, make, noise_variance):
    run = trained(make(), tmp_path / "out", PosteriorConfig(noise_variance=noise_variance), hub_model_id=REPO)
    run.evaluate()
    run.push_to_hub(dataset="Rivers")
    own = BayesianModel.from_pretrained(tmp_path / "out")
    pulled = BayesianModel.from_pretrained(REPO)
    same(pulled, own)
    same(pulled, BayesianModel(run.model, run.posterior, run._stored_posterior()), 1e-5)
    assert pulled.evaluations[0].metrics == run.evaluation.metrics
    assert SeriesProcessor.from_pretrained(REPO).to_dict() == run.processing_class.to_dict()
    assert ModelCard.load(REPO).data.pipeline_tag == "time-series-forecasting"

    pulled.push_to_hub("user/again")
    same(BayesianModel.from_pretrained("user/again"), own)
    named = {"config.json", "model.safetensors", "posterior.safetensors", POSTERIOR_CONFIG_NAME, "calibration.json"}
    for repo in (REPO, "user/again"):
        files = {file for file in HfApi().list_repo_files(repo) if re.search(r"\.(json|safetensors)$", file)}
        assert files - {"preprocessor_config.json"} == named


@pytest.mark.parametrize(("make", "plain"), [(tiny_koopa, KoopaForPrediction), (tiny_patchtst, PatchTSTForPrediction)])
def test_others_load_the_mean(hub, make, plain):
    model = bayesian(make())
    model.push_to_hub(REPO)
    expected = model.forecast(past_values=PAST, use_mean=True).mean
    loaded = [plain.from_pretrained(REPO), AutoModelForForecasting.from_pretrained(REPO)]
    if plain is KoopaForPrediction:
        loaded.append(AutoModelForTimeSeriesPrediction.from_pretrained(REPO))
    for mean in loaded:
        assert type(mean) is plain
        with torch.no_grad():
            torch.testing.assert_close(mean.eval()(past_values=PAST).prediction_outputs, expected)


@pytest.mark.parametrize("make", [tiny_koopa, tiny_patchtst])
def test_pulled_by_a_fresh_process(hub, make):
    model = bayesian(make())
    model.push_to_hub(REPO)
    printed = run_client(
        hub,
        f"""
        import torch
        from hf_scorevi import BayesianModel
        model = BayesianModel.from_pretrained("{REPO}")
        past = torch.arange({2 * CONTEXT}.0).reshape(1, -1, 2).sin()
        print(model.forecast(past_values=past, num_samples=3, seed=7).quantiles.double().sum().item())
        """,
    )
    past = torch.arange(2.0 * CONTEXT).reshape(1, -1, 2).sin()
    expected = model.forecast(past_values=past, num_samples=3, seed=7).quantiles.double().sum().item()
    assert float(printed) == pytest.approx(expected, rel=1e-6)


def test_an_adapter_s_noise_travels_too(hub, tmp_path):
    base = tiny_patchtst()
    base.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["head"])
    model = bayesian(get_peft_model(base, lora), [0.04, 0.09])
    model.push_to_hub(REPO)
    again = PatchTSTForPrediction.from_pretrained(tmp_path / "base")
    same(BayesianModel.from_pretrained(REPO, base_model=again), model, 1e-5)


@pytest.mark.parametrize(
    "value",
    [0, -1.0, "0.1", "big", [], [[]], [0.1, -0.1], [0.1, 0], [[[0.1]]], [[0.1], [0.1, 0.2]], ["a"], {"a": 1}],
)
def test_damaged_noise_is_refused_with_a_sentence(checkpoint, value):
    contents = json.loads((checkpoint / POSTERIOR_CONFIG_NAME).read_text())
    contents["likelihood"]["noise_variance"] = value
    (checkpoint / POSTERIOR_CONFIG_NAME).write_text(json.dumps(contents))
    with pytest.raises(PosteriorCheckpointError, match=rf"{POSTERIOR_CONFIG_NAME} is damaged: .+\."):
        BayesianModel.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {},
        {"factor": [[0.1]]},
        {"floor": [0.1]},
        {"factor": [[-0.1]], "floor": [0.1]},
        {"factor": [[0.1]], "floor": [0]},
        {"factor": "a", "floor": [0.1]},
    ],
)
def test_damaged_noise_by_window_is_refused_with_a_sentence(checkpoint, value):
    contents = json.loads((checkpoint / POSTERIOR_CONFIG_NAME).read_text())
    contents["likelihood"]["window_noise"] = value
    (checkpoint / POSTERIOR_CONFIG_NAME).write_text(json.dumps(contents))
    with pytest.raises(PosteriorCheckpointError, match=rf"{POSTERIOR_CONFIG_NAME} is damaged: .+\."):
        BayesianModel.from_pretrained(checkpoint)


@pytest.mark.parametrize("value", [[0.1, 0.1, 0.1], [[0.1]] * 5, [[0.1] * 3] * 6])
def test_noise_of_another_model_is_refused_where_it_is_used(tmp_path, value):
    bayesian(tiny_koopa(), value).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="that of another model"):
        BayesianModel.from_pretrained(tmp_path).forecast(past_values=PAST)


def test_a_checkpoint_without_noise_says_what_to_do(tmp_path):
    bayesian(tiny_koopa(), None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"noise variance of this posterior is not known.*ScoreVITrainer"):
        BayesianModel.from_pretrained(tmp_path).forecast(past_values=PAST)
