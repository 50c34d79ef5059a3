"""The scale of each head's loss: so many terms times the loss are the sum of −log densities, computed by SciPy."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.special import log_softmax
from transformers import (
    PatchTSMixerForPretraining,
    PatchTSMixerForRegression,
    PatchTSMixerForTimeSeriesClassification,
    PatchTSTForClassification,
    PatchTSTForPretraining,
    PatchTSTForRegression,
    TimesFm2_5Config,
    TimesFm2_5ModelForPrediction,
    TimesFmConfig,
    TimesFmModelForPrediction,
)

from hf_scorevi.heads import Head, find_head
from hf_scorevi.time_series import windows_for
from tests.densities import log_densities, outputs_and_parameters
from tests.forecasters import (
    CONTEXT,
    tiny_autoformer,
    tiny_informer,
    tiny_koopa,
    tiny_mixer,
    tiny_patchtst,
    tiny_transformer,
)

BATCH = 5
FORECASTERS = {
    "koopa": tiny_koopa,
    "patchtst": tiny_patchtst,
    "mixer": tiny_mixer,
    "transformer": tiny_transformer,
    "informer": tiny_informer,
    "autoformer": tiny_autoformer,
}
AUTOREGRESSIVE = ("transformer", "informer", "autoformer")


def counts(steps: int, channels: int) -> torch.Tensor:
    """A series of whole numbers, which all distributions take, of another size in each channel."""
    rates = torch.arange(1, channels + 1) * (2 + torch.sin(torch.arange(steps)[:, None] / 3))
    return torch.poisson(rates, generator=torch.Generator().manual_seed(0))


def batch_for(model) -> dict[str, torch.Tensor]:
    config = model.config
    channels = getattr(config, "num_input_channels", None) or config.input_size
    features = getattr(config, "num_time_features", 0)
    steps = CONTEXT + 3 + config.prediction_length + BATCH
    extra = {"time_features": np.sin(np.arange(steps)[:, None] * np.arange(1, features + 1))} if features else {}
    chosen, config.prediction_channel_indices = getattr(config, "prediction_channel_indices", None), None
    windows = windows_for(config, counts(steps, channels), **extra)
    config.prediction_channel_indices = chosen
    return {name: torch.stack([windows[i][name] for i in range(BATCH)]) for name in windows[0]}


def numpy(*tensors):
    return [tensor.double().numpy() for tensor in tensors]


DISTRIBUTIONS = ("student_t", "normal", "negative_binomial")
DENSITIES = [
    *(("patchtst", 6, kind) for kind in DISTRIBUTIONS),
    *(("mixer", 6, kind) for kind in DISTRIBUTIONS[:2]),
    *((name, horizon, kind) for name in AUTOREGRESSIVE for horizon in (1, 6) for kind in DISTRIBUTIONS),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "horizon", "kind"), DENSITIES)
def test_terms_times_loss_are_minus_the_log_likelihood(name, horizon, kind, channels):
    settings = {} if name in AUTOREGRESSIVE else {"loss": "nll"}
    model = FORECASTERS[name](channels, prediction_length=horizon, distribution_output=kind, **settings)
    batch, head = batch_for(model), find_head(model)
    outputs, parameters = outputs_and_parameters(model, batch)
    target, loc, scale = numpy(batch["future_values"], outputs.loc, outputs.scale)
    expected = -log_densities(kind, parameters, target, loc, scale)
    assert expected.size == BATCH * horizon * channels
    assert BATCH * head.terms * outputs.loss.item() == pytest.approx(expected.sum(), rel=1e-4)
    assert (head.task, head.likelihood, head.targets) == ("forecasts", "distribution", ("future_values",))
    assert not head.normalises


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 6])
@pytest.mark.parametrize("name", ["koopa", "patchtst", "mixer"])
def test_a_squared_error_is_a_mean_over_as_many_terms(name, horizon, channels):
    model = FORECASTERS[name](channels, prediction_length=horizon).eval()
    check_squared_error(model, horizon * channels)


def check_squared_error(model, terms):
    batch, head = batch_for(model), find_head(model)
    with torch.no_grad():
        outputs = model(**batch)
    residual = head.predicted(outputs).double() - head.observed(batch["future_values"]).double()
    assert head.likelihood == "gaussian" and head.terms == terms == residual[0].numel()
    assert BATCH * head.terms * outputs.loss.item() == pytest.approx(residual.square().sum().item(), rel=1e-5)
    assert head.normalises and outputs.scale.shape == (BATCH, 1, residual.shape[2])


@pytest.mark.parametrize("chosen", [[1], [2, 0]])
def test_channels_that_are_not_forecast_do_not_count(chosen):
    model = tiny_mixer(3, prediction_channel_indices=chosen).eval()
    check_squared_error(model, 6 * len(chosen))
    model = tiny_mixer(3, prediction_channel_indices=chosen, loss="nll", distribution_output="normal")
    batch, head = batch_for(model), find_head(model)
    outputs, parameters = outputs_and_parameters(model, batch)
    target, loc, scale = numpy(batch["future_values"][..., sorted(chosen)], outputs.loc, outputs.scale)
    expected = -log_densities("normal", parameters, target, loc, scale)
    assert BATCH * head.terms * outputs.loss.item() == pytest.approx(expected.sum(), rel=1e-4)


def test_an_adapter_changes_nothing():
    model = tiny_patchtst(3)
    adapted = get_peft_model(tiny_patchtst(3), LoraConfig(r=2, target_modules=["q_proj"])).eval()
    assert find_head(adapted) == find_head(model)
    check_squared_error(adapted, 18)


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize(
    ("make", "kind"), [(tiny_patchtst, PatchTSTForRegression), (tiny_mixer, PatchTSMixerForRegression)]
)
def test_regressions_of_series(make, kind, targets):
    past = torch.randn(BATCH, CONTEXT, 2, generator=torch.Generator().manual_seed(0))
    target = torch.poisson(torch.full((BATCH, targets), 3.0), generator=torch.Generator().manual_seed(1))
    model = make(2, kind, num_targets=targets, loss="mse").eval()
    head = find_head(model)
    with torch.no_grad():
        outputs = model(past_values=past, target_values=target)
    expected = (head.predicted(outputs) - target).double().square().sum().item()
    assert (head.task, head.likelihood, head.targets) == ("numbers", "gaussian", ("target_values",))
    assert BATCH * head.terms * outputs.loss.item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="Choose loss='mse'"):
        find_head(make(2, kind, num_targets=targets, loss="nll"))


@pytest.mark.parametrize(
    ("make", "kind", "field"),
    [
        (tiny_patchtst, PatchTSTForClassification, "prediction_logits"),
        (tiny_mixer, PatchTSMixerForTimeSeriesClassification, "prediction_outputs"),
    ],
)
def test_classifiers_of_series(make, kind, field):
    model = (
        make(2, kind, num_targets=4, num_labels=4, use_cls_token=True)
        if make is tiny_patchtst
        else make(2, kind, num_targets=4)
    )
    past = torch.randn(BATCH, CONTEXT, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 1, 2])
    with torch.no_grad():
        outputs = model.eval()(past_values=past, target_values=labels)
    head = find_head(model)
    assert head == Head("classes", "categorical", 1, ("target_values",), (field,))
    log_probabilities = log_softmax(head.predicted(outputs).double().numpy(), axis=1)
    expected = -log_probabilities[np.arange(BATCH), labels.numpy()].sum()
    assert BATCH * head.terms * outputs.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        (tiny_patchtst(2, PatchTSTForPretraining), "regression or forecasting"),
        (tiny_mixer(2, PatchTSMixerForPretraining), "regression or forecasting"),
        (TimesFmModelForPrediction(TimesFmConfig(num_hidden_layers=1, hidden_size=16, intermediate_size=16)), "Koopa"),
        (
            TimesFm2_5ModelForPrediction(
                TimesFm2_5Config(
                    num_hidden_layers=1,
                    hidden_size=16,
                    intermediate_size=16,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    head_dim=8,
                )
            ),
            "Koopa",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_of_no_data_are_refused_and_the_way_out_named(model, remedy):
    with pytest.raises(ValueError, match=f"{type(model).__name__}.*has no posterior.*{remedy}"):
        find_head(model)


@pytest.mark.parametrize("make", [tiny_patchtst, tiny_mixer])
def test_a_density_of_one_step_that_mixes_windows_is_refused(make):
    with pytest.raises(ValueError, match=r"compares each window with the others.*loss='mse'"):
        find_head(make(1, prediction_length=1, loss="nll"))


def test_counts_that_are_scaled_twice_are_refused():
    with pytest.raises(ValueError, match=r"counts by the scale of the window twice.*another distribution_output"):
        find_head(tiny_mixer(2, loss="nll", distribution_output="negative_binomial"))


def test_outputs_without_the_prediction_are_told():
    with pytest.raises(TypeError, match="no tensor 'prediction_outputs'"):
        Head(predictions=("prediction_outputs",)).predicted({"logits": torch.zeros(1)})
