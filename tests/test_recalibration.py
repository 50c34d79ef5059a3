import json

import pytest
import torch

from hf_scorevi import BayesianModel, PosteriorCheckpointError
from hf_scorevi.evaluation import evaluate
from hf_scorevi.hub import read_recalibration
from hf_scorevi.posthoc import Recalibration, Sketch, apply_temperature, fit_temperature

from .test_prediction import bayesian
from .tiny_models import Examples, images, tiny_vit

HELD_OUT, TEST = images(60, seed=1), images(40, seed=2)
QUIET = {"use_cpu": True, "disable_tqdm": True}


@pytest.fixture
def model() -> BayesianModel:
    """A classifier that is far too sure."""
    model = bayesian(tiny_vit())
    for _, _, precision in model.posterior.state():
        precision.fill_(1e3)
    with torch.no_grad():
        model.model.classifier.weight.mul_(200)
    return model


def nll(model, data, temperature=1.0):
    out = model.predict_dataset(data, num_samples=6, seed=0)
    log_probs = apply_temperature(out.log_probs.double(), temperature)
    return -log_probs.gather(1, data.columns["labels"].unsqueeze(1)).mean().item()


def test_the_temperature_is_that_of_the_held_out_predictive_and_is_applied(model):
    before = model.predict_dataset(TEST, num_samples=6, seed=0)
    held_out = model.predict_dataset(HELD_OUT, num_samples=6, seed=0)
    plain = nll(model, HELD_OUT)
    found = model.calibrate(HELD_OUT, num_samples=6, seed=0)
    assert found.temperature == fit_temperature(held_out.log_probs, HELD_OUT.columns["labels"]) > 2
    assert found.posterior_scale == 1 and found.num_examples == 60
    assert found.nll_before == pytest.approx(plain, rel=1e-6)
    assert found.nll_after == pytest.approx(nll(model, HELD_OUT), rel=1e-5)
    after = model.predict_dataset(TEST, num_samples=6, seed=0)
    torch.testing.assert_close(after.log_probs, apply_temperature(before.log_probs, found.temperature))
    assert torch.equal(after.mutual_information, before.mutual_information)
    assert nll(model, TEST) < 0.9 * -before.log_probs.gather(1, TEST.columns["labels"].unsqueeze(1)).mean().item()


def test_the_mean_s_own_prediction_is_left_alone(model):
    before = model.predict_dataset(TEST, use_mean=True).probs
    model.calibrate(HELD_OUT, num_samples=2)
    assert torch.equal(model.predict_dataset(TEST, use_mean=True).probs, before)


def test_a_width_is_chosen_that_is_no_worse_and_every_draw_has_it(model):
    for _, _, precision in model.posterior.state():
        precision.fill_(2.0)  # far too wide
    plain = nll(model, HELD_OUT)
    found = model.calibrate(HELD_OUT, temperature=False, posterior_scale=True, num_samples=6)
    assert found.posterior_scale < 0.7 and found.temperature == 1
    assert found.nll_after == pytest.approx(nll(model, HELD_OUT), rel=1e-5)
    assert found.nll_after < found.nll_before == pytest.approx(plain, rel=1e-6)
    mean = model.model.classifier.weight.detach().clone()
    with model.sample(seed=0) as drawn:
        narrow = drawn.classifier.weight.detach() - mean
    model.recalibration = None
    with model.sample(seed=0) as drawn:
        wide = drawn.classifier.weight.detach() - mean
    torch.testing.assert_close(narrow, wide * found.posterior_scale, atol=1e-5, rtol=1e-4)


def test_both_together_are_no_worse_than_either(model):
    both = model.calibrate(HELD_OUT, posterior_scale=True, num_samples=4)
    temperature = model.calibrate(HELD_OUT, num_samples=4)
    scale = model.calibrate(HELD_OUT, temperature=False, posterior_scale=True, num_samples=4)
    assert both.nll_after <= min(temperature.nll_after, scale.nll_after) + 1e-6
    # Each fit starts from the posterior as it was trained, not from the fit before.
    assert both.nll_before == temperature.nll_before == scale.nll_before


def test_it_is_saved_loaded_and_evaluated_with(model, tmp_path):
    plain = evaluate(model, TEST, num_samples=4, **QUIET)
    model.evaluations = [plain]
    found = model.calibrate(HELD_OUT, num_samples=4)
    assert model.evaluations == []  # they are of another predictive
    recalibrated = evaluate(model, TEST, num_samples=4, **QUIET)
    assert recalibrated.recalibrated and not plain.recalibrated
    assert recalibrated.metrics["mean"] == plain.metrics["mean"]
    assert recalibrated.metrics["predictive"]["nll"] < plain.metrics["predictive"]["nll"]
    assert recalibrated.metrics["predictive"]["accuracy"] == plain.metrics["predictive"]["accuracy"]
    assert recalibrated.by_num_samples[-1]["nll"] == pytest.approx(recalibrated.metrics["predictive"]["nll"], rel=1e-5)
    model.evaluations = [recalibrated]
    model.save_pretrained(tmp_path)
    loaded = BayesianModel.from_pretrained(tmp_path)
    assert loaded.recalibration == found == read_recalibration(tmp_path)
    assert [own.to_dict() for own in loaded.evaluations] == [recalibrated.to_dict()]
    a, b = (own.predict(pixel_values=TEST.columns["pixel_values"], seed=0) for own in (model, loaded))
    assert torch.equal(a.probs, b.probs)
    card = (tmp_path / "README.md").read_text()
    assert f"temperature {found.temperature:.3g}" in card and "60 examples" in card


def test_data_that_were_fitted_to_do_not_judge(model):
    model.calibrate(HELD_OUT, num_samples=2)
    for data in (
        HELD_OUT,
        Examples(**{name: torch.cat([c, HELD_OUT.columns[name].flip(0)]) for name, c in TEST.columns.items()}),
    ):
        with pytest.raises(ValueError, match="recalibrated on"):
            evaluate(model, data, num_samples=2, batch_size=8, **QUIET)
    evaluate(model, TEST, num_samples=2, **QUIET)
    model.recalibration = None
    evaluate(model, HELD_OUT, num_samples=2, **QUIET)


@pytest.mark.parametrize(
    ("data", "asked", "message"),
    [
        (HELD_OUT, {"temperature": False}, "nothing to fit"),
        (Examples(pixel_values=HELD_OUT.columns["pixel_values"]), {}, "needs `labels`"),
        (Examples(pixel_values=torch.zeros(0, 1, 8, 8), labels=torch.zeros(0, dtype=torch.long)), {}, "is empty"),
    ],
)
def test_what_cannot_be_fitted_is_said_and_changes_nothing(model, data, asked, message):
    found = model.calibrate(HELD_OUT, num_samples=2)
    with pytest.raises(ValueError, match=message):
        model.calibrate(data, **asked)
    assert model.recalibration is found


def test_other_models_are_refused():
    model = bayesian(tiny_vit(num_labels=1), noise_variance=1.0)
    with pytest.raises(ValueError, match="Only classifiers"):
        model.calibrate(HELD_OUT, num_samples=2)


def stored(tmp_path, model, **changes):
    model.calibrate(HELD_OUT, num_samples=2)
    model.save_pretrained(tmp_path)
    path = tmp_path / "calibration.json"
    contents = json.loads(path.read_text())
    contents["recalibration"] |= changes
    path.write_text(json.dumps(contents))


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0}, {"temperature": -1.0}, {"temperature": 1e9}, {"temperature": "2"}, {"temperature": True},
        {"posterior_scale": None}, {"posterior_scale": 0.0}, {"num_examples": 0}, {"num_samples": 1.5}, {"seed": -1},
        {"nll_before": -1}, {"nll_after": "x"}, {"dataset": ""}, {"dataset": "a\nb"}, {"split": 3}, {"seen": "x"},
        {"seen": ["zz"]}, {"seen": ["0" * 16] * 65}, {"seen": [1]},
    ],
)  # fmt: skip
def test_a_damaged_one_is_refused(tmp_path, model, changes):
    stored(tmp_path, model, **changes)
    with pytest.raises(PosteriorCheckpointError, match="is damaged"):
        BayesianModel.from_pretrained(tmp_path)


def test_of_other_weights_it_is_left_out(tmp_path, model, caplog):
    stored(tmp_path, model)
    model.recalibration = None
    with torch.no_grad():
        model.model.classifier.bias.add_(1)
    text = (tmp_path / "calibration.json").read_text()
    model.save_pretrained(tmp_path)
    (tmp_path / "calibration.json").write_text(text)
    assert BayesianModel.from_pretrained(tmp_path).recalibration is None
    assert "other weights" in caplog.text


def test_a_record_comes_back():
    values = Recalibration(1.5, 0.7, "user/data", 10, 4, 0, 1.0, 0.9, Sketch(["0" * 16, "f" * 16]), "en", "validation")
    assert Recalibration.from_dict(json.loads(json.dumps(values.to_dict()))) == values
    with pytest.raises(ValueError, match="'seen' is missing"):
        Recalibration.from_dict({k: v for k, v in values.to_dict().items() if k != "seen"})
    with pytest.raises(ValueError, match="a recalibration must be an object"):
        Recalibration.from_dict([])
