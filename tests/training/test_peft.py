"""Adapters: their weights alone are Bayesian, and their checkpoints stay plain adapters."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForImageClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    ResNetForImageClassification,
    TrainerCallback,
    ViTForImageClassification,
)

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, ScoreVITrainer
from hf_scorevi.posterior import draw_seed
from hf_scorevi.training.refusals import upcast
from tests.tiny_models import Examples, arguments, images, tiny_resnet, tiny_vit

TEST = images(9, seed=3)
PIXELS = TEST.columns["pixel_values"]
HEAD = {"modules_to_save": ["classifier"]}
ATTENTION = {"target_modules": ["q_proj", "v_proj"]} | HEAD
WEIGHTS = {
    "lora": {"lora_A", "lora_B"},
    "dora": {"lora_A", "lora_B", "lora_magnitude_vector"},
    "adalora": {"lora_A", "lora_B", "lora_E"},
    "ia3": {"ia3_l"},
}


def adapter(kind: str, **kwargs) -> PeftConfig:
    if kind == "ia3":
        return IA3Config(**({"target_modules": ["q_proj", "fc2"], "feedforward_modules": ["fc2"]} | HEAD | kwargs))
    if kind == "adalora":
        settings = {"init_r": 2, "total_step": 100, "orth_reg_weight": 0.0}
        return AdaLoraConfig(**(ATTENTION | settings | kwargs))
    return LoraConfig(r=2, use_dora=kind == "dora", **(ATTENTION | kwargs))


def make_trainer(folder, model: nn.Module, family: str = "diagonal", **kwargs) -> ScoreVITrainer:
    settings = dict(max_steps=8, curvature_interval=2, learning_rate=1e-2, per_device_eval_batch_size=64)
    config = PosteriorConfig(family=family, init_std=0.05)
    args = arguments(folder, **(settings | kwargs))
    return ScoreVITrainer(model, args, train_dataset=images(), eval_dataset=images(seed=1), posterior_config=config)


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(pixel_values=PIXELS).logits


def clones(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


@dataclass
class Run:
    """A finished training of an adapter on the model in `base`, saved in `folder`."""

    kind: str
    family: str
    base: Path
    folder: Path
    start: dict[str, Tensor]
    trainer: ScoreVITrainer

    def base_model(self, **kwargs) -> ViTForImageClassification:
        return ViTForImageClassification.from_pretrained(self.base, **kwargs)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_vit(hidden_dropout_prob=0.1).save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[*((kind, "diagonal") for kind in WEIGHTS), ("lora", "block_diagonal"), ("adalora", "isotropic")],
    ids="-".join,
)
def run(request, base, tmp_path_factory) -> Run:
    kind, family = request.param
    folder = tmp_path_factory.mktemp(kind)
    torch.manual_seed(0)
    model = get_peft_model(ViTForImageClassification.from_pretrained(base), adapter(kind))
    trainer = make_trainer(folder, model, family, save_strategy="steps", save_steps=3)
    start = clones(trainer.posterior.precision)
    trainer.train()
    trainer.save_model(str(folder / "final"))
    return Run(kind, family, base, folder / "final", start, trainer)


def test_exactly_the_adapter_and_the_saved_modules_are_bayesian(run):
    model, names = run.trainer.model, run.trainer.posterior.names
    assert names == [name for name, p in model.named_parameters() if p.requires_grad]
    kinds = {part for name in names for part in name.split(".") if part.startswith(("lora_", "ia3_"))}
    assert kinds == WEIGHTS[run.kind]
    heads = [name for name in names if not WEIGHTS[run.kind] & set(name.split("."))]
    assert heads == [f"base_model.model.classifier.modules_to_save.default.{end}" for end in ("weight", "bias")]
    # All the rest is the base, bit for bit: the Bayesian weights stand beside it, not in it.
    rest = {
        name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", "."): p
        for name, p in model.named_parameters()
        if name not in names and ".ranknum." not in name  # AdaLoRA's constant
    }
    assert differing(rest, dict(run.base_model().named_parameters())) == []


def test_every_precision_moves(run):
    still = [name for name, value in run.trainer.posterior.precision.items() if torch.equal(value, run.start[name])]
    assert still == []


def test_plain_peft_loads_the_mean(run):
    assert (run.folder / "adapter_model.safetensors").is_file()
    assert not (run.folder / "model.safetensors").exists()
    plain = PeftModel.from_pretrained(run.base_model(), str(run.folder))
    assert torch.equal(logits(plain), logits(run.trainer.model))
    assert not torch.allclose(logits(plain), logits(run.base_model()), atol=1e-3)


@pytest.mark.parametrize("given", [True, False])
def test_the_posterior_comes_back_on_a_base_that_is_given_or_named(run, given):
    model = BayesianModel.from_pretrained(run.folder, base_model=run.base_model() if given else None)
    assert differing(model.posterior.precision, run.trainer.posterior.precision) == []
    run.trainer.model.eval()
    with run.trainer.posterior.sampled(draw_seed(5, 0)):
        drawn = logits(run.trainer.model)
    with model.sample(seed=5) as loaded:
        assert torch.equal(logits(loaded), drawn)
    assert not torch.allclose(drawn, logits(run.trainer.model), atol=1e-4)
    out = model.predict(pixel_values=PIXELS, num_samples=4, seed=run.trainer.args.seed)
    assert torch.allclose(torch.tensor(run.trainer.predict(TEST).predictions).exp(), out.probs, atol=1e-6)


def test_resume_is_bit_exact(run, tmp_path):
    torch.manual_seed(9)  # a fresh process starts from another adapter
    model = get_peft_model(run.base_model(), adapter(run.kind))
    resumed = make_trainer(tmp_path, model, run.family)
    resumed.train(resume_from_checkpoint=str(run.folder.parent / "checkpoint-3"))
    whole = run.trainer
    assert differing(dict(resumed.model.state_dict()), dict(whole.model.state_dict())) == []
    assert differing(resumed.posterior.precision, whole.posterior.precision) == []
    assert differing(resumed.update.state_dict(), whole.update.state_dict()) == []


def test_a_draw_merges_into_a_plain_model(run, tmp_path):
    model = BayesianModel.from_pretrained(run.folder)
    before = clones(model.model.state_dict())
    merged = {seed: model.merge_and_unload(seed) for seed in (0, 7)}
    for seed, plain in merged.items():
        assert type(plain) is ViTForImageClassification
        assert plain.state_dict().keys() == run.base_model().state_dict().keys()
        with model.sample(seed) as drawn:
            expected = logits(drawn)
        assert torch.allclose(logits(plain), expected, atol=1e-5)
    assert not torch.allclose(logits(merged[0]), logits(merged[7]), atol=1e-4)
    mean = model.merge_and_unload(use_mean=True)
    assert torch.allclose(logits(mean), logits(model.model), atol=1e-5)
    # The Bayesian model is untouched, also by what is done to its offspring.
    with torch.no_grad():
        mean.classifier.weight.zero_()
    assert differing(dict(model.model.state_dict()), before) == []
    merged[7].save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(merged[7]))


def test_merging_into_a_quantised_base_is_refused(run):
    model = BayesianModel.from_pretrained(run.folder)
    model.model.get_base_model().is_quantized = True
    with pytest.raises(ValueError, match=r"quantised base would round the draw away.*base_model=model"):
        model.merge_and_unload()


def test_the_best_adapter_brings_back_its_own_posterior(base, tmp_path):
    model = get_peft_model(ViTForImageClassification.from_pretrained(base), adapter("lora"))
    best = dict(load_best_model_at_end=True, metric_for_best_model="nll", greater_is_better=True)  # the worst: first
    steps = dict(eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3, max_steps=9)
    trainer = make_trainer(tmp_path, model, **steps, **best)
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-3")
    stored = BayesianModel.from_pretrained(tmp_path / "checkpoint-3")
    assert differing(dict(model.state_dict()), dict(stored.model.state_dict())) == []
    assert differing(trainer.posterior.precision, stored.posterior.precision) == []
    live = dict(model.named_parameters())
    assert all(p is live[name] for name, p in zip(trainer.posterior.names, trainer.posterior.params, strict=True))


def dtypes(model: nn.Module) -> tuple[set[torch.dtype], set[torch.dtype]]:
    """Of the weights that are trained, and of the others."""
    return tuple({p.dtype for p in model.parameters() if p.requires_grad is wanted} for wanted in (True, False))


@pytest.mark.parametrize(
    ("kind", "head", "bf16"),
    [("lora", False, False), ("lora", False, True), ("lora", True, False), *((kind, True, True) for kind in WEIGHTS)],
)
def test_an_adapter_is_float32_on_a_half_precision_base(base, tmp_path, kind, head, bf16):
    """The base stays bfloat16, except under a head that is trained in float32 and could not read it."""
    half = ViTForImageClassification.from_pretrained(base, dtype=torch.bfloat16)
    model = get_peft_model(half, adapter(kind, modules_to_save=["classifier"] if head else None))
    trainer = make_trainer(tmp_path, model, bf16=bf16)
    rest = torch.float32 if head and not bf16 else torch.bfloat16
    assert dtypes(model) == ({torch.float32}, {rest})
    start = clones(trainer.posterior.precision)
    trainer.train()
    assert dtypes(model) == ({torch.float32}, {rest})
    assert all(not torch.equal(value, start[name]) for name, value in trainer.posterior.precision.items())
    trainer.save_model(str(tmp_path / "final"))
    predicted = torch.tensor(trainer.predict(TEST).predictions).exp()
    for given in (None, ViTForImageClassification.from_pretrained(base, dtype=torch.bfloat16)):
        loaded = BayesianModel.from_pretrained(tmp_path / "final", base_model=given)
        assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
        probs = loaded.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed).probs
        assert torch.allclose(probs, predicted, atol=1e-6 if rest is torch.float32 else 1e-2)


def test_the_rounding_of_a_half_precision_base_is_not_taken_for_another_loss(tmp_path):
    model = get_peft_model(tiny_vit().to(torch.bfloat16), adapter("lora", modules_to_save=None))
    trainer = make_trainer(tmp_path, model, max_steps=12)
    assert trainer.train().global_step == 12


def test_the_page_s_code_runs(tmp_path, monkeypatch):
    """The first two blocks of docs/peft.md, on small data and a small model."""
    page = Path(__file__).parents[2] / "docs" / "peft.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    load = AutoModelForImageClassification.from_pretrained
    tiny_vit().base_model.save_pretrained(tmp_path / "body")
    small = {"google/vit-base-patch16-224-in21k": tmp_path / "body"}
    monkeypatch.setattr(AutoModelForImageClassification, "from_pretrained", lambda name, **k: load(small[name], **k))
    monkeypatch.setattr("hf_scorevi.ScoreVITrainingArguments", arguments)
    monkeypatch.chdir(tmp_path)
    names = {"train": images(), "x": PIXELS}
    for block in blocks[:2]:
        exec(compile(block, str(page), "exec"), names)
    assert names["out"].probs.shape == (9, 37)
    assert torch.equal(logits(load(tmp_path / "draw-0")), logits(names["plain"]))
    assert not torch.equal(logits(names["mean"]), logits(names["plain"]))


def test_the_upcast_of_a_head_is_announced(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_scorevi.training.refusals.logger.warning", said.append)
    model = get_peft_model(tiny_vit().to(torch.bfloat16), adapter("lora"))
    make_trainer(tmp_path, model, bf16=True)
    assert len(said) == 1
    assert said[0].startswith("Bayesian weights in bfloat16 are converted to float32, without the rest of the model")


def test_adalora_s_regulariser_is_refused_and_without_it_the_loss_is_the_likelihood(tmp_path):
    data = images()
    with pytest.raises(ValueError, match=r"orth_reg_weight=0\.5 adds a penalty.*orth_reg_weight=0\.0"):
        make_trainer(tmp_path, get_peft_model(tiny_vit(), adapter("adalora", orth_reg_weight=0.5)))
    model = make_trainer(tmp_path, get_peft_model(tiny_vit(), adapter("adalora"))).model.eval()
    with torch.no_grad():
        out = model(**data.columns)
    assert torch.equal(out.loss, nn.functional.cross_entropy(out.logits, data.columns["labels"]))


class Allocate(TrainerCallback):
    """AdaLoRA's rank allocation, where PEFT says that it belongs."""

    def on_optimizer_step(self, args, state, control, *, model, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def test_pruned_ranks_are_refused_before_anything_is_saved(tmp_path):
    pruning = adapter("adalora", init_r=4, target_r=1, tinit=1, tfinal=2, total_step=8)
    trainer = make_trainer(tmp_path, get_peft_model(tiny_vit(), pruning), save_strategy="steps", save_steps=1)
    trainer.add_callback(Allocate())
    with pytest.raises(ValueError, match=r"AdaLoRA has pruned ranks .*init_r is then the rank to the end"):
        trainer.train()
    before = sorted(tmp_path.glob("checkpoint-*"))
    assert [folder.name for folder in before] == ["checkpoint-1", "checkpoint-2"]
    BayesianModel.from_pretrained(before[-1], base_model=tiny_vit())
    with pytest.raises(ValueError, match="AdaLoRA has pruned ranks"):
        make_trainer(tmp_path, trainer.model)


def other_name() -> nn.Module:
    return get_peft_model(tiny_vit(), adapter("lora"), adapter_name="mine")


def other_active() -> nn.Module:
    model = get_peft_model(tiny_vit(), adapter("lora"))
    model.add_adapter("second", adapter("lora"))
    model.set_adapter("second")
    return model


def of_transformers() -> nn.Module:
    model = tiny_vit()
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))
    return model


def of_another_type() -> nn.Module:
    return get_peft_model(tiny_vit(), VeraConfig(r=4, target_modules=["q_proj"]))


def without_its_wrapper() -> nn.Module:
    return get_peft_model(tiny_vit(), adapter("lora")).get_base_model()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_name, r"must be the one named 'default', not \['mine'\]"),
        (other_active, r"must be the one named 'default', not \['second'\]"),
        (of_transformers, r"train what peft\.get_peft_model returns"),
        (of_another_type, r"of type VERA could not be loaded again; those that can are LORA"),
        (without_its_wrapper, r"train what peft\.get_peft_model returns"),
    ],
)
def test_adapters_that_could_not_be_saved_are_refused_at_once(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, make())


@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=2, **ATTENTION),
        LoKrConfig(r=2, **ATTENTION),
        OFTConfig(oft_block_size=4, **ATTENTION),
        BOFTConfig(boft_block_size=4, **ATTENTION),
        HRAConfig(r=2, **ATTENTION),
        LNTuningConfig(target_modules=["layernorm_before"]),
        FourierFTConfig(n_frequency=10, **ATTENTION),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_other_adapters_come_back_too(tmp_path, config):
    tiny_vit().save_pretrained(tmp_path / "base")
    base = ViTForImageClassification.from_pretrained(tmp_path / "base")
    trainer = make_trainer(tmp_path, get_peft_model(base, config))
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    expected = torch.tensor(trainer.predict(trainer.eval_dataset).predictions).exp()
    pixels = trainer.eval_dataset.columns["pixel_values"]
    model = BayesianModel.from_pretrained(tmp_path / "adapter")
    probs = model.predict(pixel_values=pixels, num_samples=4, seed=trainer.args.seed).probs
    assert torch.allclose(probs, expected, atol=1e-6)


def test_a_resting_second_adapter_stays_out_of_it(tmp_path):
    model = get_peft_model(tiny_vit(), adapter("lora"))
    model.add_adapter("second", adapter("lora"))
    trainer = make_trainer(tmp_path, model, max_steps=2)
    assert not any("second" in name for name in trainer.posterior.names)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    loaded = BayesianModel.from_pretrained(tmp_path / "final", base_model=tiny_vit())
    assert differing(loaded.posterior.precision, trainer.posterior.precision) == []


@pytest.mark.parametrize("saved", [["classifier"], ["classifier", "normalization"]])
def test_running_statistics_of_the_base_come_back(tmp_path, monkeypatch, saved):
    said = []
    monkeypatch.setattr("hf_scorevi.training.refusals.logger.warning", said.append)
    tiny_resnet().save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["convolution"], modules_to_save=saved)
    model = get_peft_model(ResNetForImageClassification.from_pretrained(tmp_path / "base"), lora)
    trainer = make_trainer(tmp_path, model)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    stored = tmp_path / "final" / "base_weights.safetensors"
    assert stored.exists() is ("normalization" not in saved)
    if stored.exists():
        assert {key.rpartition(".")[2] for key in load_file(stored)} == {
            "running_mean",
            "running_var",
            "num_batches_tracked",
        }
    assert ["running statistics of batch normalisation" in line for line in said] == [True] * stored.exists()
    for given in (None, tiny_resnet(seed=0)):
        loaded = BayesianModel.from_pretrained(tmp_path / "final", base_model=given)
        assert differing(loaded.posterior.precision, trainer.posterior.precision) == []
        assert torch.equal(logits(loaded.model), logits(trainer.model))


TOKENS = torch.randint(5, 50, (24, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
    """A checkpoint whose classifier has a new pooler, since it has none."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertForMaskedLM(BertConfig(vocab_size=50, **sizes)).save_pretrained(folder)
    return folder


def with_pooler(folder: Path, seed: int = 0, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=3)
    return get_peft_model(model, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS", **kwargs))


def text_trainer(folder, model: nn.Module, **kwargs) -> ScoreVITrainer:
    data = Examples(input_ids=TOKENS, labels=torch.arange(24) % 3)
    args = arguments(folder, **(dict(max_steps=6, curvature_interval=2, learning_rate=1e-2) | kwargs))
    return ScoreVITrainer(model, args, train_dataset=data, eval_dataset=data)


@pytest.mark.parametrize(
    ("kwargs", "by_hand", "message"),
    [
        (
            {},
            False,
            r"'bert\.pooler\.dense\.weight' \(and 1 more\): these weights of the base are new, that is random",
        ),
        ({}, True, "these weights of the base are trained, but are no part of the adapter"),
        ({"modules_to_save": ["classifier", "pooler"]}, False, None),
    ],
)
def test_what_is_random_or_trained_outside_the_adapter_is_said(
    language_model, tmp_path, monkeypatch, kwargs, by_hand, message
):
    said = []
    monkeypatch.setattr("hf_scorevi.training.refusals.logger.warning", said.append)
    model = with_pooler(language_model, **kwargs)
    for name, p in model.named_parameters():
        p.requires_grad_(p.requires_grad or (by_hand and "pooler" in name))
    text_trainer(tmp_path, model)
    assert len(said) == (message is not None)
    assert not said or (re.search(message, said[0]) and "modules_to_save" in said[0])


@pytest.mark.parametrize("by_hand", [False, True])
def test_weights_outside_the_adapter_are_kept_by_every_way_of_loading(language_model, tmp_path, by_hand):
    def make(seed: int) -> nn.Module:
        model = with_pooler(language_model, seed)
        for name, p in model.named_parameters():
            p.requires_grad_(p.requires_grad or (by_hand and "pooler" in name))
        return model

    def kept(model: nn.Module) -> dict[str, Tensor]:  # less the new head that rests beside its trained copy
        return {name: t for name, t in model.state_dict().items() if "original_module" not in name}

    steps = dict(eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2)
    best = dict(load_best_model_at_end=True, metric_for_best_model="nll", greater_is_better=True)
    whole = text_trainer(tmp_path / "whole", make(0), **steps)
    whole.train()
    resumed = text_trainer(tmp_path / "resumed", make(5), **steps)  # other random numbers in its pooler
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert differing(kept(resumed.model), kept(whole.model)) == []
    assert differing(resumed.posterior.precision, whole.posterior.precision) == []

    trainer = text_trainer(tmp_path / "best", make(0), **steps, **best)
    trainer.train()
    chosen = BayesianModel.from_pretrained(trainer.state.best_model_checkpoint)
    assert differing(kept(chosen.model), kept(trainer.model)) == []
    other = text_trainer(tmp_path / "other", make(7))
    other.load_model(trainer.state.best_model_checkpoint)
    assert differing(kept(other.model), kept(trainer.model)) == []
    assert any("pooler" in name for name in trainer.posterior.names) is by_hand


def test_resuming_on_another_base_is_refused(base, tmp_path):
    trainer = make_trainer(tmp_path, get_peft_model(ViTForImageClassification.from_pretrained(base), adapter("lora")))
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    for other, config, message in (
        (tiny_vit(seed=3), adapter("lora"), "other values"),
        (tiny_vit(num_labels=5), adapter("lora"), r"shape \(3, 16\).*it belongs to a model of other sizes"),
        (tiny_vit(), adapter("ia3"), "has a posterior over .*lora_A.*, which PeftModel does not have"),
    ):
        with pytest.raises(PosteriorCheckpointError, match=message):
            make_trainer(tmp_path / "x", get_peft_model(other, config)).load_model(tmp_path / "final")


def test_weights_of_eight_bits_are_refused():
    model = get_peft_model(tiny_vit(), adapter("lora"))
    weight = nn.Parameter(torch.zeros(4).to(torch.float8_e4m3fn))
    with pytest.raises(ValueError, match="Quantised weights cannot be Bayesian"):
        upcast(model, {"weight": weight})


# Quantised bases


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory) -> Path:
    """A model with a block of 64 weights, the least that bitsandbytes quantises to four bits."""
    folder = tmp_path_factory.mktemp("wide")
    tiny_vit(hidden_size=64, intermediate_size=64).save_pretrained(folder)
    return folder


def quantised(folder: Path, bits: int, skip: tuple[str, ...] = ("classifier",)) -> ViTForImageClassification:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, llm_int8_skip_modules=list(skip))
    return ViTForImageClassification.from_pretrained(folder, quantization_config=config, device_map="cpu")


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_on_a_quantised_base_is_bayesian(wide_base, tmp_path, bits):
    model = get_peft_model(quantised(wide_base, bits), adapter("lora"))
    whole = clones({name: p for name, p in model.named_parameters() if not p.requires_grad})
    trainer = make_trainer(tmp_path, model)
    names = trainer.posterior.names
    assert names == [name for name, p in model.named_parameters() if p.requires_grad]
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    assert {p.dtype for name, p in whole.items()} == {torch.float32, torch.uint8 if bits == 4 else torch.int8}
    assert differing({name: p for name, p in model.named_parameters() if name in whole}, whole) == []
    predicted = torch.tensor(trainer.predict(TEST).predictions).exp()
    for given in (None, quantised(wide_base, bits)):
        loaded = BayesianModel.from_pretrained(tmp_path / "final", base_model=given)
        assert loaded.model.is_quantized
        assert differing(loaded.posterior.precision, trainer.posterior.precision) == []
        out = loaded.predict(pixel_values=PIXELS, num_samples=4, seed=trainer.args.seed)
        assert torch.allclose(out.probs, predicted, atol=1e-6)
    with pytest.raises(ValueError, match="quantised base would round the draw away"):
        loaded.merge_and_unload()
    plain = BayesianModel.from_pretrained(
        tmp_path / "final", base_model=ViTForImageClassification.from_pretrained(wide_base)
    )
    merged = logits(plain.merge_and_unload(3))
    with plain.sample(3) as drawn:
        assert torch.allclose(merged, logits(drawn), atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_weights_themselves_are_refused(wide_base, tmp_path, bits):
    with pytest.raises(ValueError, match="purely quantized"):  # transformers says so first
        make_trainer(tmp_path, quantised(wide_base, bits))
    with pytest.raises(RuntimeError, match="floating point"):  # a head that is quantised cannot be trained: PEFT
        get_peft_model(quantised(wide_base, bits, skip=("nothing",)), adapter("lora"))
