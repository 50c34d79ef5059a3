import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, ScoreVITrainer
from tests.interrupts import interrupted
from tests.tiny_models import arguments, images, tiny_vit

PIXELS = images(9, seed=3).columns["pixel_values"]


@pytest.fixture(scope="module", params=["isotropic", "diagonal"])
def folder(request, tmp_path_factory):
    """A checkpoint that a trainer wrote."""
    path = tmp_path_factory.mktemp("checkpoint")
    trainer = ScoreVITrainer(
        tiny_vit(),
        arguments(path, num_train_epochs=2),
        train_dataset=images(),
        posterior_config=PosteriorConfig(family=request.param, init_std=0.3),
    )
    trainer.train()
    trainer.save_model(str(path))
    return path


def test_save_load_predict_is_identical(folder, tmp_path):
    model = BayesianModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    again = BayesianModel.from_pretrained(tmp_path / "again")
    a, b = (m.predict(pixel_values=PIXELS, num_samples=6, seed=1) for m in (model, again))
    for field in ("probs", "entropy", "expected_entropy", "mutual_information", "samples"):
        assert torch.equal(getattr(a, field), getattr(b, field))
    assert again.posterior_config.to_dict() == model.posterior_config.to_dict()
    assert again.config.num_labels == 3


def test_plain_transformers_loads_the_mean(folder):
    model = BayesianModel.from_pretrained(folder)
    plain = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = plain(pixel_values=PIXELS).logits
        assert torch.equal(logits, model.model(pixel_values=PIXELS).logits)
    assert torch.allclose(model.predict(pixel_values=PIXELS, use_mean=True).probs, logits.softmax(-1), atol=1e-6)


def test_the_predictive_averages_its_samples(folder):
    out = BayesianModel.from_pretrained(folder).predict(pixel_values=PIXELS, num_samples=8, seed=0)
    assert out.samples.shape == (8, 9, 3)
    assert out.probs.shape == (9, 3)
    assert torch.allclose(out.samples.mean(0), out.probs, atol=1e-6)
    assert torch.allclose(out.probs.sum(-1), torch.ones(9), atol=1e-6)
    assert (out.mutual_information >= 0).all() and (out.mutual_information > 1e-6).any()
    assert torch.allclose(out.entropy - out.expected_entropy, out.mutual_information, atol=1e-6)


def test_seeds_repeat_and_their_absence_does_not(folder):
    model = BayesianModel.from_pretrained(folder)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = model.predict(pixel_values=PIXELS, num_samples=2, seed=4).probs
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, model.predict(pixel_values=PIXELS, num_samples=2, seed=4).probs)
    fresh = [model.predict(pixel_values=PIXELS, num_samples=2).probs for _ in range(2)]
    assert not torch.equal(*fresh)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_draws_do_not_depend_on_the_batch(folder):
    model = BayesianModel.from_pretrained(folder)
    whole = model.predict(pixel_values=PIXELS, num_samples=3, seed=0).probs
    parts = [model.predict(pixel_values=part, num_samples=3, seed=0).probs for part in PIXELS.split(4)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


def test_sample_lends_an_ordinary_model_and_takes_it_back(folder):
    model = BayesianModel.from_pretrained(folder)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    with torch.no_grad(), model.sample(seed=2) as drawn:
        assert not torch.equal(drawn.classifier.weight, before["classifier.weight"])
        probs = drawn(pixel_values=PIXELS).logits.softmax(-1)
    assert torch.allclose(probs, model.predict(pixel_values=PIXELS, num_samples=1, seed=2).probs, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_a_draw_is_an_ordinary_model_beside_the_mean(folder, tmp_path):
    model = BayesianModel.from_pretrained(folder)
    asked = {"pixel_values": PIXELS, "num_samples": 3, "seed": 1}
    mean = {name: value.clone() for name, value in model.model.state_dict().items()}
    out, of_mean = model.predict(**asked).probs, model.predict(pixel_values=PIXELS, use_mean=True).probs
    with torch.no_grad(), model.sample(seed=2) as drawn, model.sample(seed=3) as other:
        logits = drawn(pixel_values=PIXELS).logits
        assert torch.equal(model.predict(**asked).probs, out)
        assert torch.equal(model.predict(pixel_values=PIXELS, use_mean=True).probs, of_mean)
        assert not torch.equal(other(pixel_values=PIXELS).logits, logits)
        copied, pickled, whole = copy.deepcopy(drawn), pickle.loads(pickle.dumps(drawn)), copy.deepcopy(model)
        assert all(torch.equal(value, mean[name]) for name, value in copy.deepcopy(model.model).state_dict().items())
        model.save_pretrained(tmp_path / "mean")
        drawn.save_pretrained(tmp_path / "draw")
    saved = AutoModelForImageClassification.from_pretrained(tmp_path / "draw")
    for one in (drawn, copied, pickled, saved.eval()):
        assert torch.equal(one(pixel_values=PIXELS).logits, logits)
    with torch.no_grad():
        copied.classifier.weight.zero_()  # it shares nothing
    assert torch.equal(whole.predict(**asked).probs, out)
    assert torch.equal(BayesianModel.from_pretrained(tmp_path / "mean").predict(**asked).probs, out)
    assert all(torch.equal(value, mean[name]) for name, value in model.model.state_dict().items())


def test_it_predicts_whatever_mode_it_was_loaded_in(folder):
    asked = {"pixel_values": PIXELS, "num_samples": 3, "seed": 1}
    expected = BayesianModel.from_pretrained(folder).predict(**asked).probs
    with torch.inference_mode():
        model = BayesianModel.from_pretrained(folder)
        assert torch.equal(model.predict(**asked).probs, expected)
    assert torch.equal(model.predict(**asked).probs, expected)
    with torch.no_grad(), model.sample(0) as drawn:
        drawn(pixel_values=PIXELS)
    with torch.inference_mode():
        assert torch.equal(BayesianModel.from_pretrained(folder).predict(**asked).probs, expected)


def test_an_interrupt_of_a_prediction_loses_nothing(folder):
    model = BayesianModel.from_pretrained(folder)
    mean = {name: value.clone() for name, value in model.model.state_dict().items()}
    asked = {"pixel_values": PIXELS, "num_samples": 3, "seed": 1}
    expected = model.predict(**asked).probs
    at, step, found = 1, 1, 0
    while interrupted(lambda: model.predict(**asked), at):
        assert all(torch.equal(value, mean[name]) for name, value in model.model.state_dict().items())
        found += 1
        at += step
        step = 1 + at // 10  # everywhere at first, then here and there
    assert found > 50 and at > 10_000
    assert torch.equal(model.predict(**asked).probs, expected)


SERVER_REQUESTS = int(os.environ.get("HF_SCOREVI_TEST_REQUESTS", "48"))


def test_threads_share_a_model_as_those_of_a_web_server_do(folder, tmp_path):
    """Every answer is the serial one, bit for bit."""
    model = BayesianModel.from_pretrained(folder)
    kinds = ["draws", "mean", "together", "mean", "sample", "calls"]

    def answer(request):
        kind, seed = "save" if request % 16 == 7 else kinds[request % len(kinds)], request % 5
        pixels = PIXELS[: 1 + seed]
        if kind == "mean":
            return model.predict(pixel_values=pixels, use_mean=True).probs
        if kind == "sample":
            with torch.no_grad(), model.sample(seed) as drawn:
                return drawn(pixel_values=pixels).logits
        if kind == "save":
            model.save_pretrained(target := tmp_path / f"{threading.get_ident()}-{request}")
            found = load_file(target / "model.safetensors")
            return torch.cat([found[name].flatten() for name in sorted(found)])
        if kind == "calls":
            return model(pixel_values=pixels).logits
        at_once = 2 if kind == "together" else 1
        return model.predict(pixel_values=pixels, num_samples=4, seed=seed, draws_at_once=at_once).samples

    requests = range(SERVER_REQUESTS)
    expected = [answer(request) for request in requests]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(answer, requests))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_model_without_an_adapter_has_nothing_to_merge(folder):
    with pytest.raises(ValueError, match=r"ViTForImageClassification has no adapter to merge.*model\.sample\(seed\)"):
        BayesianModel.from_pretrained(folder).merge_and_unload()


def test_no_samples_is_an_error_that_names_the_alternative(folder):
    with pytest.raises(ValueError, match=r"num_samples must be at least 1, not 0; .*use_mean=True"):
        BayesianModel.from_pretrained(folder).predict(pixel_values=PIXELS, num_samples=0)


def test_predictions_are_in_evaluation_mode_without_gradients(folder):
    model = BayesianModel.from_pretrained(folder)
    model.model.train()
    out = model.predict(pixel_values=PIXELS, num_samples=1, seed=0)
    assert not out.probs.requires_grad
    assert not model.model.training


def test_a_folder_without_a_posterior_says_so(tmp_path):
    tiny_vit().save_pretrained(tmp_path)
    with pytest.raises(PosteriorCheckpointError, match="it holds no posterior"):
        BayesianModel.from_pretrained(tmp_path)
    with pytest.raises(PosteriorCheckpointError, match="is neither a folder nor the name of a repository"):
        BayesianModel.from_pretrained(tmp_path / "missing")


def test_an_unknown_architecture_is_not_executed(folder, tmp_path):
    model = BayesianModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text().replace("ViTForImageClassification", "EvilModel")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(PosteriorCheckpointError, match=r"'EvilModel'.*never executed"):
        BayesianModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("family", ["isotropic", "block_diagonal"])
def test_an_adapter_s_weights_alone_are_bayesian(tmp_path, family):
    """And its checkpoint knows the classes of a head that the base model on disk does not have."""
    tiny_vit().base_model.save_pretrained(tmp_path / "base")
    new_head = {"num_labels": 3, "ignore_mismatched_sizes": True}
    base = AutoModelForImageClassification.from_pretrained(tmp_path / "base", **new_head)
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    trainer = ScoreVITrainer(
        get_peft_model(base, lora),
        arguments(tmp_path),
        train_dataset=images(),
        posterior_config=PosteriorConfig(family=family),
    )
    trainer.train()
    if family == "block_diagonal":  # a block for each input of A and each output of B
        factors = trainer.posterior.family.factor
        blocks = [(name, tuple(f.shape)) for name, f in zip(trainer.posterior.names, factors, strict=True)]
        assert {shape for name, shape in blocks if "lora_" in name} == {(16, 2, 2)}
    assert all("lora_" in name or "modules_to_save" in name for name in trainer.posterior.names)
    assert len(trainer.posterior.names) == 2 * 2 * 2 + 2
    trainer.save_model(str(tmp_path / "adapter"))
    metrics = trainer.predict(images(9, seed=3))

    model = BayesianModel.from_pretrained(tmp_path / "adapter")
    out = model.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed)
    assert torch.allclose(out.probs, torch.tensor(metrics.predictions).exp(), atol=1e-6)
    plain = PeftModel.from_pretrained(
        AutoModelForImageClassification.from_pretrained(tmp_path / "base", **new_head), str(tmp_path / "adapter")
    )
    with torch.no_grad():
        mean = plain(pixel_values=PIXELS).logits.softmax(-1)
    assert torch.allclose(model.predict(pixel_values=PIXELS, use_mean=True).probs, mean, atol=1e-6)
    # plain transformers accepts the adapter's folder as it does any other
    auto = AutoModelForImageClassification.from_pretrained(tmp_path / "adapter", **new_head)
    with torch.no_grad():
        assert torch.allclose(auto(pixel_values=PIXELS).logits.softmax(-1), mean, atol=1e-6)
    model.save_pretrained(tmp_path / "again")
    again = BayesianModel.from_pretrained(tmp_path / "again")
    assert torch.equal(again.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed).probs, out.probs)


def test_an_adapter_whose_base_was_never_saved_brings_it_along(tmp_path):
    trainer = ScoreVITrainer(
        get_peft_model(tiny_vit(), LoraConfig(r=2, target_modules=["q_proj"])),
        arguments(tmp_path, max_steps=1),
        train_dataset=images(),
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    expected = torch.tensor(trainer.predict(images(9, seed=3)).predictions).exp()
    for given in (None, tiny_vit(), tiny_vit(seed=5)):
        loaded = BayesianModel.from_pretrained(tmp_path / "adapter", base_model=given)
        found = loaded.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed)
        assert torch.allclose(found.probs, expected, atol=1e-6)
