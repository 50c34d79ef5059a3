"""bf16 and fp16 autocast over float32 weights."""

import pytest
import torch

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from tests.tiny_models import arguments, images, tiny_vit


def trained(folder, init_std=0.05, prepare=lambda trainer: None, **kwargs) -> ScoreVITrainer:
    settings = dict(max_steps=12, curvature_interval=2, learning_rate=3e-3)
    trainer = ScoreVITrainer(
        tiny_vit(seed=1),
        arguments(folder, **settings | kwargs),
        train_dataset=images(96),
        eval_dataset=images(24, seed=4),
        posterior_config=PosteriorConfig(init_std=init_std),
    )
    prepare(trainer)
    trainer.train()
    return trainer


def half_on_cpu(trainer: ScoreVITrainer) -> None:
    """What fp16=True does on a GPU: on a CPU Accelerate has neither autocast nor scaler for it, but would use them."""
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer.accelerator.native_amp = True
    trainer.accelerator.state._mixed_precision = "fp16"


@pytest.mark.parametrize(
    ("kwargs", "tolerance"), [({"bf16": True}, 0.02), ({"prepare": half_on_cpu}, 0.002)], ids=["bf16", "fp16"]
)
def test_the_posterior_of_mixed_precision_is_that_of_float32(tmp_path, kwargs, tolerance):
    """Rounding (2⁻⁹ of a bf16 number, 2⁻¹² of an fp16 one) may move it; weights and precisions stay float32."""
    dtypes = set()
    reference, mixed = trained(tmp_path), None
    prepare = kwargs.pop("prepare", lambda trainer: None)

    def observe(trainer):
        prepare(trainer)
        layer = trainer.model.vit.layers[0].mlp.fc1
        layer.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))

    mixed = trained(tmp_path, prepare=observe, **kwargs)
    assert dtypes == {torch.bfloat16 if "bf16" in kwargs else torch.float16}
    assert {p.dtype for p in mixed.model.parameters()} == {torch.float32}
    found = torch.stack(list(mixed.posterior.precision.values()))
    assert found.dtype == torch.float32
    expected = torch.stack(list(reference.posterior.precision.values()))
    start = torch.stack([torch.as_tensor(float(s)) for s in initial_precision()])
    assert (expected / start - 1).abs().max() > 0.1  # they have moved by more than that
    assert torch.allclose(found, expected, rtol=tolerance, atol=0)
    assert mixed.evaluate()["eval_nll"] == pytest.approx(reference.evaluate()["eval_nll"], abs=tolerance)


def initial_precision() -> list[torch.Tensor]:
    from hf_scorevi.posterior import Posterior, select_parameters

    model = tiny_vit(seed=1)
    return list(Posterior.initialise(select_parameters(model), PosteriorConfig(init_std=0.05)).precision.values())


@pytest.mark.parametrize(("init_std", "kwargs", "warns"), [
    (1e-3, {"bf16": True}, True),
    (1e-2, {"bf16": True}, False),
    (1e-3, {}, False),
])  # fmt: skip
def test_noise_below_the_resolution_is_told(tmp_path, monkeypatch, init_std, kwargs, warns):
    said = []
    monkeypatch.setattr("hf_scorevi.training.figures.logger.warning_once", said.append)
    trained(tmp_path, init_std, max_steps=1, **kwargs)
    assert bool(said) is warns
    if warns:
        assert said[0].startswith("The posterior's noise is 0.001 of its weights, below the resolution of bfloat16")


def test_draws_inside_an_autocast_region_are_not_the_first_ones_cast(tmp_path):
    trainer = trained(tmp_path, max_steps=2)
    trainer.save_model()
    model = BayesianModel.from_pretrained(tmp_path)
    inputs = images(8, seed=3).columns["pixel_values"]
    with torch.autocast("cpu", torch.bfloat16):
        together = model.predict(pixel_values=inputs, num_samples=3, seed=1)
        mean = model.predict(pixel_values=inputs, use_mean=True).probs
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        apart = model.predict(pixel_values=inputs, num_samples=3, seed=1)
        mean_apart = model.predict(pixel_values=inputs, use_mean=True).probs
    assert torch.equal(together.samples, apart.samples)
    assert torch.equal(mean, mean_apart)
    assert not torch.equal(together.samples[0], together.samples[1])


def test_the_cast_cache_would_serve_stale_weights(tmp_path, monkeypatch):
    """What the test above guards against is there: autocast keeps its first cast of a weight."""
    trainer = trained(tmp_path, max_steps=2)
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: None)
    weight, outputs = trainer.model.classifier.weight, []
    with torch.autocast("cpu", torch.bfloat16):
        for seed in (1, 2):
            with trainer.posterior.sampled(seed):
                outputs.append(torch.nn.functional.linear(torch.eye(16), weight))
    assert torch.equal(*outputs)
