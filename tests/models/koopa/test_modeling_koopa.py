import math

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.func import functional_call, grad, vmap

from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction, KoopaModel

SIZES = {"input_size": 2, "dynamic_dim": 6, "hidden_dim": 5, "hidden_layers": 3, "num_blocks": 2}


def make(context=12, horizon=6, segment=None, mask=(0, 2), dtype=torch.float32, seed=0, **kwargs):
    config = KoopaConfig(
        context_length=context,
        prediction_length=horizon,
        segment_length=segment,
        mask_spectrum=list(mask),
        **(SIZES | kwargs),
    )
    torch.manual_seed(seed)
    return KoopaForPrediction(config).to(dtype).eval()


def windows(model, batch=3, seed=1):
    config, generator = model.config, torch.Generator().manual_seed(seed)
    shape = (batch, config.context_length + config.prediction_length, config.input_size)
    values = torch.randn(shape, generator=generator, dtype=torch.float64).cumsum(1).to(model.dtype)
    return values[:, : config.context_length], values[:, config.context_length :]


def forecast_in_numpy(model, past):
    """One window's forecast, (L, C) → (S, C), as section 3 of the paper has it, with numpy's FFT and least squares."""
    config, weights = model.config, {k: v.numpy() for k, v in model.model.state_dict().items()}

    def mlp(name, x, activation):
        last = 3 * (config.hidden_layers - 1)
        for i in range(0, last + 1, 3):
            x = x @ weights[f"{name}.{i}.weight"].T + weights[f"{name}.{i}.bias"]
            x = x if i == last else activation(x)
        return x

    def relu(x):
        return np.maximum(x, 0)

    length, segment = config.context_length, config.segment_length
    number, channels = math.ceil(length / segment), past.shape[1]
    loc, scale = past.mean(0), np.sqrt(past.var(0) + 1e-5)
    left, total = (past - loc) / scale, 0
    for block in range(config.num_blocks):
        spectrum = np.fft.rfft(left, axis=0)
        spectrum[config.mask_spectrum] = 0
        variant = np.fft.irfft(spectrum, n=length, axis=0)
        embedding = mlp("time_invariant_encoder", (left - variant).T, relu) @ weights[f"operators.{block}.weight"].T
        total = total + mlp("time_invariant_decoder", embedding, relu).T
        extra = number * segment - length
        padded = np.concatenate([variant[length - extra :], variant])
        states = mlp("time_variant_encoder", padded.reshape(number, segment * channels), np.tanh)
        operator = np.linalg.lstsq(states[:-1], states[1:], rcond=None)[0]
        found = np.concatenate([states[:1], states[:-1] @ operator])
        ahead = [states[-1] @ np.linalg.matrix_power(operator, s + 1) for s in range(config.prediction_length)]
        decode = [mlp("time_variant_decoder", x, np.tanh).reshape(-1, channels) for x in (found, np.stack(ahead))]
        left = left - decode[0][extra:]
        total = total + decode[1][: config.prediction_length]
    return total * scale + loc


@pytest.mark.parametrize(
    ("context", "horizon", "segment", "embedding"),
    [
        (12, 6, None, 6),  # two segments, as published
        (13, 6, None, 6),  # odd, and no multiple of the segment
        (20, 10, 5, 6),  # more segments, more steps, fewer transitions than dimensions
        (23, 11, 5, 6),  # nothing fits
        (24, 4, 3, 4),  # more transitions than dimensions
    ],
)
def test_against_numpy(context, horizon, segment, embedding):
    model = make(context, horizon, segment, dtype=torch.float64, dynamic_dim=embedding)
    past, _ = windows(model)
    expected = np.stack([forecast_in_numpy(model, one) for one in past.numpy()])
    found = model(past).prediction_outputs.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_frozen_reference():
    """Numbers that this code gave when it agreed with the original on these very weights, to 1e-15."""
    model = make(dtype=torch.float64)
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):  # independent of how torch draws
            weight.copy_(torch.sin(torch.arange(weight.numel(), dtype=torch.float64) + i).reshape(weight.shape) / 2)
        past = torch.cos(torch.arange(24.0, dtype=torch.float64) ** 1.5).reshape(1, 12, 2)
        output = model(past, torch.zeros(1, 6, 2, dtype=torch.float64))
    assert output.prediction_outputs.flatten().tolist() == pytest.approx(REFERENCE, abs=1e-12)
    assert output.loss.item() == pytest.approx(np.square(REFERENCE).mean(), abs=1e-12)


REFERENCE = [
    -1.88197172354621,
    -0.83477874082072,
    0.21537608979367,
    -0.25963370975532,
    0.30193818258594,
    1.0853789779258,
    1.17267304900139,
    0.85347192589194,
    -1.02955452485753,
    -0.41575445824074,
    0.19008425906758,
    0.50340632051858,
]


# Settings of the original's scripts, C, L, S, dynamic_dim, hidden_dim, hidden_layers, num_blocks, and the number of
# parameters that the original has with them.
PUBLISHED = """
    ECL      321  96  48 256 512 3 3 17641056
    ECL      321 192  96 128 512 3 1 33065408
    ECL      321 288 144 512 512 3 1 49965344
    ECL      321 384 192  64 512 2 1 63605248
    ETTh2      7  96  48  64 512 2 4   567808
    ETTh2      7 192  96  64  64 2 1   126080
    ETTh2      7 288 144  64  64 3 4   207616
    ETTh2      7 384 192  64  64 2 1   231296
    Exchange   8  96  48 128 256 3 4   694960
    Exchange   8 192  96  64  64 3 4   167392
    Exchange   8 288 144 512  64 2 2   833040
    Exchange   8 384 192  64 128 3 2   576320
    ILI        7  48  24 128 512 2 4   539072
    ILI        7  72  36 512 512 3 3  3202336
    ILI        7  96  48 256 512 2 2  1076096
    ILI        7 120  60  64 256 4 3   866912
    Traffic  862  96  48 512 256 3 1 22314448
    Traffic  862 192  96  64 128 2 3 21349920
    Traffic  862 288 144 128 128 2 1 32039024
    Traffic  862 384 192 128 128 2 1 42691136
    Weather   21  96  48 128  64 2 4   238112
    Weather   21 192  96  64 128 3 2   662720
    Weather   21 288 144 128  64 2 2   483936
    Weather   21 384 192 128  64 2 3   639616
"""


@pytest.mark.parametrize("line", PUBLISHED.strip().splitlines(), ids=lambda line: "-".join(line.split()[:3:2]))
def test_number_of_parameters(line):
    channels, context, horizon, embedding, hidden, layers, blocks, expected = map(int, line.split()[1:])
    config = KoopaConfig(
        input_size=channels,
        context_length=context,
        prediction_length=horizon,
        dynamic_dim=embedding,
        hidden_dim=hidden,
        hidden_layers=layers,
        num_blocks=blocks,
        mask_spectrum=[0],
    )
    with torch.device("meta"):
        model = KoopaForPrediction(config)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_initialisation():
    model = make(dynamic_dim=32, hidden_dim=64).model
    for operator in model.operators:
        torch.testing.assert_close(operator.weight @ operator.weight.T, torch.eye(32), atol=1e-5, rtol=0)
    assert not torch.equal(model.operators[0].weight, model.operators[1].weight)
    layer = model.time_invariant_encoder[3]  # torch's own: uniform up to 1/√64
    for tensor in (layer.weight, layer.bias):
        assert 0.9 / 8 < tensor.abs().max() <= 1 / 8
    assert layer.weight.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)


def test_base_model_explains_the_forecast():
    model = make()
    past, future = windows(model)
    base, output = model.model(past), model(past, future)
    assert base.residual.shape == past.shape and base.loc.shape == base.scale.shape == (3, 1, 2)
    sums = (base.time_invariant_outputs + base.time_variant_outputs) * base.scale + base.loc
    torch.testing.assert_close(output.prediction_outputs, sums)
    torch.testing.assert_close(output.loss, (sums - future).square().mean())
    torch.testing.assert_close(output.loc[:, 0], past.mean(1))
    torch.testing.assert_close(output.scale[:, 0], (past.var(1, unbiased=False) + 1e-5).sqrt())
    assert model(past).loss is None
    assert len(model(past, future, return_dict=False)) == 4


def test_shift_and_scale_pass_through():
    model = make(dtype=torch.float64)
    past, _ = windows(model)
    moved = model(past * 100 + 7).prediction_outputs
    torch.testing.assert_close(moved, model(past).prediction_outputs * 100 + 7, rtol=1e-3, atol=1e-3)  # but for 1e-5


def test_loc_and_scale_are_constants_to_the_gradient():
    model = make(dtype=torch.float64)
    past, future = (values.requires_grad_() for values in windows(model))
    output = model(past, future)
    assert not output.loc.requires_grad and not output.scale.requires_grad
    output.loss.backward()
    assert past.grad.isfinite().all() and past.grad.abs().max() > 0


def test_gradients():
    model = make(dtype=torch.float64)
    past, future = windows(model)
    model(past, future).loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name

    def loss(weight):
        return functional_call(model, {"model.operators.0.weight": weight}, (past, future)).loss

    assert torch.autograd.gradcheck(loss, model.model.operators[0].weight)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_a_constant_window_is_forecast_finitely(constant):
    model = make()
    output = model(torch.full((1, 12, 2), constant), torch.zeros(1, 6, 2))
    output.loss.backward()
    assert output.prediction_outputs.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("segment", [None, 3])
def test_vmap_over_weights(segment):
    models = [make(segment=segment, seed=seed) for seed in range(3)]
    past, future = windows(models[0])
    stacked = {
        name: torch.stack([dict(model.named_parameters())[name].detach() for model in models])
        for name, _ in models[0].named_parameters()
    }
    found = vmap(lambda w: functional_call(models[0], w, (past,)).prediction_outputs)(stacked)
    expected = torch.stack([model(past).prediction_outputs for model in models])
    torch.testing.assert_close(found, expected)
    # and over examples: the gradient of each
    weights = {name: weight.detach() for name, weight in models[0].named_parameters()}
    each = vmap(grad(lambda w, x, y: functional_call(models[0], w, (x[None], y[None])).loss), in_dims=(None, 0, 0))(
        weights, past, future
    )
    models[0](past, future).loss.backward()
    for name, weight in models[0].named_parameters():
        torch.testing.assert_close(each[name].mean(0), weight.grad, rtol=1e-4, atol=1e-5)


def test_round_trip(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name, _ in model.named_parameters()}
    loaded = KoopaForPrediction.from_pretrained(tmp_path)
    past, _ = windows(model)
    assert torch.equal(loaded(past).prediction_outputs, model(past).prediction_outputs)
    assert loaded.config.mask_spectrum == [0, 2] and loaded.config.segment_length == 6
    base = KoopaModel.from_pretrained(tmp_path)
    assert torch.equal(base(past).residual, model.model(past).residual)


def test_half_precision_weights(tmp_path):
    model = make()
    past, future = windows(model)
    model.save_pretrained(tmp_path)
    half = KoopaForPrediction.from_pretrained(tmp_path, dtype=torch.bfloat16)
    output = half(past.bfloat16(), future.bfloat16())
    assert output.loss.dtype == output.prediction_outputs.dtype == torch.float32
    expected = model(past.bfloat16().float()).prediction_outputs
    torch.testing.assert_close(output.prediction_outputs, expected, atol=0.1 * expected.std().item(), rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        output = make(segment=3)(past, future)
    assert output.loss.isfinite()


def test_clear_errors():
    model = make()
    past, future = windows(model)
    with pytest.raises(ValueError, match=r"context_length 12, input_size 2\), not \(3, 12, 1\)"):
        model(past[..., :1])
    with pytest.raises(ValueError, match=r"context_length 12, input_size 2\), not \(3, 11, 2\)"):
        model(past[:, 1:])
    with pytest.raises(ValueError, match=r"input_size\) = \(3, 6, 2\), not \(3, 5, 2\)"):
        model(past, future[:, 1:])
    for wrong in (float("nan"), float("inf")):
        spoilt = past.clone()
        spoilt[1, 2, 0] = wrong
        with pytest.raises(ValueError, match="past_values has values that are NaN or infinite"):
            model(spoilt)
    with pytest.raises(ValueError, match="mask_spectrum is not set"):
        KoopaForPrediction(KoopaConfig())
