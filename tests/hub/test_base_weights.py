"""What the base of an adapter cannot give back lies beside it: the model that is loaded is the one that was saved."""

import copy
import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    ViTForImageClassification,
)

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import StoredPosterior, new_tensors, save_posterior
from hf_scorevi.hub.base_weights import BaseRecord, Fingerprint, base_tensors, split_base
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import tiny_vit

TOKENS = torch.randint(5, 50, (4, 12), generator=torch.Generator().manual_seed(0))
PIXELS = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
POOLER = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
HEAD = {"classifier.weight", "classifier.bias"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertForMaskedLM(BertConfig(vocab_size=50, **sizes)).save_pretrained(root / "bert")
    ids = dict(bos_token_id=1, eos_token_id=1, pad_token_id=0)
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=16, **ids)).save_pretrained(
        root / "gpt2"
    )
    tiny_vit().save_pretrained(root / "vit")
    tiny_vit().vit.save_pretrained(root / "body")
    return root


def lora(**kwargs):
    return LoraConfig(**(dict(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]) | kwargs))


def bert(root, **kwargs):
    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(root / "bert", num_labels=3)
    return get_peft_model(model, lora(target_modules=["query"], **kwargs))


def vit(root, **kwargs):
    return ViTForImageClassification.from_pretrained(root / "vit", **kwargs)


def moved(model, names=""):
    """With other weights, as training would leave them."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if names in name and tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model


def save(folder, model, **kwargs):
    """Weights that are trained are not those that the model began with."""
    for p in model.parameters():
        if p.requires_grad:
            p.data.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig())
    model.save_pretrained(folder)
    save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(), 24, 0.1), **kwargs)
    return folder


def outputs(model):
    text = hasattr(model.config, "vocab_size")
    with torch.no_grad():
        return model.eval()(**({"input_ids": TOKENS} if text else {"pixel_values": PIXELS})).logits


def extra(folder):
    path = folder / "base_weights.safetensors"
    return load_file(path) if path.exists() else {}


def by_hand(model):
    for name, p in model.named_parameters():
        p.requires_grad_(p.requires_grad or "LayerNorm" in name)
    return model


def gpt2(root, vocabulary=50, **kwargs):
    torch.manual_seed(1)
    model = GPT2ForSequenceClassification.from_pretrained(root / "gpt2", num_labels=3)
    model.resize_token_embeddings(vocabulary)
    return get_peft_model(
        model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="SEQ_CLS", **kwargs)
    )


def body(root):
    torch.manual_seed(1)
    return ViTForImageClassification.from_pretrained(root / "body", num_labels=3)


CASES = {
    "whole": (lambda root: get_peft_model(vit(root), lora()), set()),
    "new head in the adapter": (lambda root: get_peft_model(body(root), lora()), set()),
    "new head that is frozen": (lambda root: get_peft_model(body(root), lora(modules_to_save=None)), HEAD),
    "new pooler": (bert, POOLER),
    "new pooler and head": (lambda root: bert(root, modules_to_save=None), POOLER | HEAD),
    "pooler in the adapter": (lambda root: bert(root, modules_to_save=["classifier", "pooler"]), set()),
    "trained by hand": (lambda root: by_hand(bert(root)), ("LayerNorm", "pooler")),
    "changed before": (lambda root: get_peft_model(moved(vit(root)), lora()), ("vit.",)),
    "changed in part": (
        lambda root: get_peft_model(moved(vit(root), "layers.1.mlp.fc1"), lora()),
        ("layers.1.mlp.fc1",),
    ),
    "copied": (lambda root: get_peft_model(copy.deepcopy(vit(root)), lora()), set()),
    "biases in the adapter": (lambda root: get_peft_model(vit(root), lora(bias="all")), set()),
    "half": (lambda root: get_peft_model(vit(root, dtype=torch.bfloat16), lora(modules_to_save=None)).float(), set()),
    "never saved": (lambda root: get_peft_model(tiny_vit(seed=8), lora()), ("vit.",)),
    "tied": (gpt2, set()),
    "resized": (lambda root: gpt2(root, 60), {"transformer.wte.weight"}),
    "new tokens": (lambda root: gpt2(root, trainable_token_indices=[1, 2]), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_that_is_loaded_is_the_one_that_was_saved(root, tmp_path, case):
    make, expected = CASES[case]
    model = make(root)
    folder = save(tmp_path / "first", model)
    live = outputs(model)
    found = extra(folder).keys()
    if isinstance(expected, tuple):
        assert {part for key in found for part in expected if part in key} == set(expected)
        assert all(any(part in key for part in expected) for key in found)
    else:
        assert found == expected
    for seed in (0, 1):
        torch.manual_seed(seed)
        loaded = BayesianModel.from_pretrained(folder)
        assert torch.equal(outputs(loaded.model), live)
    # A loaded model is saved again as it was.
    loaded.save_pretrained(tmp_path / "second")
    assert extra(tmp_path / "second").keys() == found
    assert torch.equal(outputs(BayesianModel.from_pretrained(tmp_path / "second").model), live)
    merged = loaded.merge_and_unload(use_mean=True)
    merged.save_pretrained(tmp_path / "merged")
    assert torch.allclose(outputs(type(merged).from_pretrained(tmp_path / "merged")), live, atol=1e-5)


@pytest.mark.parametrize("case", ["whole", "new pooler", "never saved"])
def test_plain_peft_still_reads_the_adapter(root, tmp_path, case):
    model = CASES[case][0](root)
    folder = save(tmp_path / "adapter", model)
    base = model.unload() if case == "whole" else CASES[case][0](root).unload()
    plain = PeftModel.from_pretrained(base, folder)
    name = next(name for name, p in plain.named_parameters() if "lora_A" in name)
    assert torch.equal(
        plain.get_parameter(name), load_file(folder / "adapter_model.safetensors")[name.replace(".default", "")]
    )


def test_what_was_saved_beside_an_adapter_is_gone_once_it_is_not_needed(root, tmp_path):
    folder = save(tmp_path / "out", bert(root))
    assert extra(folder)
    save(folder, bert(root, modules_to_save=["classifier", "pooler"]))
    assert not extra(folder)
    assert BayesianModel.from_pretrained(folder).posterior.names


def test_a_base_that_is_gone_from_its_folder_is_saved_whole(root, tmp_path):
    shutil.copytree(root / "vit", tmp_path / "vit")
    model = get_peft_model(ViTForImageClassification.from_pretrained(tmp_path / "vit"), lora())
    shutil.rmtree(tmp_path / "vit")
    folder = save(tmp_path / "out", model)
    assert torch.equal(outputs(BayesianModel.from_pretrained(folder).model), outputs(model))


def test_a_base_of_pickles_is_saved_whole(root, tmp_path):
    """Nobody who is careful reads it again."""
    base = tmp_path / "vit"
    shutil.copytree(root / "vit", base)
    model = get_peft_model(ViTForImageClassification.from_pretrained(base), lora())
    (base / "model.safetensors").unlink()
    torch.save(model.unload().state_dict(), base / "pytorch_model.bin")
    model = get_peft_model(model.unload(), lora())
    folder = save(tmp_path / "out", model)
    assert torch.equal(outputs(BayesianModel.from_pretrained(folder).model), outputs(model))


def test_a_later_save_of_a_run_looks_at_what_has_changed_alone(root, tmp_path, monkeypatch):
    model = get_peft_model(vit(root), lora())
    record, changed = split_base(model)
    assert changed == {}
    monkeypatch.setattr("hf_scorevi.hub.base_weights.bases_at_hand", lambda *_: pytest.fail("files were read again"))
    assert split_base(model, record) == (record, {})
    monkeypatch.undo()
    name = "vit.layers.1.mlp.fc1.weight"
    with torch.no_grad():
        base_tensors(model)[name][3, 4] += 1
    record, changed = split_base(model, record)
    assert changed.keys() == {name}
    assert name not in record.weights


def test_a_base_that_quantises_is_recorded_without_checksums_of_what_is_packed():
    weight = nn.Parameter(torch.zeros(4, 1, dtype=torch.uint8), requires_grad=False)
    own = Fingerprint.of(weight)
    assert own.checksum is None
    assert own.matches(torch.randn(2, 4)) is None
    assert Fingerprint.of(torch.randn(2, 4)).matches(weight) is None
    assert Fingerprint.of(torch.tensor(3)).checksum is not None  # a count is no weight


def test_a_fingerprint_knows_rounding_from_other_values():
    whole = torch.randn(40, generator=torch.Generator().manual_seed(0))
    half = whole.bfloat16()
    assert Fingerprint.of(half).matches(whole) is True
    assert Fingerprint.of(half).matches(half.float()) is True
    assert Fingerprint.of(whole).matches(half) is None
    assert Fingerprint.of(half.float()).matches(half) is True
    assert Fingerprint.of(half).matches(whole + 1) is False
    assert Fingerprint.of(whole).matches(whole + 1e-6) is False
    assert Fingerprint.of(whole).matches(whole[:39]) is False


def test_new_weights_are_known_by_name(root):
    assert new_tensors(bert(root)).keys() == POOLER
    assert new_tensors(get_peft_model(vit(root), lora())) == {}
    assert new_tensors(get_peft_model(tiny_vit(), lora())) == {}


def test_a_record_survives_json_and_nonsense_is_refused(root):
    record, _ = split_base(get_peft_model(vit(root), lora()))
    assert BaseRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize(
    "base",
    [
        5,
        [],
        {},
        {"commit": None},
        {"commit": 5, "weights": {}},
        {"commit": "../../x", "weights": {}},
        {"commit": None, "weights": []},
        {"commit": None, "weights": {"x": ["float32", [1]]}},
        {"commit": None, "weights": {"x": ["load", [1], "0"]}},
        {"commit": None, "weights": {"x": ["float32", ["1"], "0"]}},
        {"commit": None, "weights": {"x": ["float32", 7, "0"]}},
        {"commit": None, "weights": {"x": [["float32"], [1], "0"]}},
        {"commit": None, "weights": {"x": ["float32", [1], 7]}},
    ],
)
def test_a_damaged_record_is_refused(root, tmp_path, base):
    folder = save(tmp_path / "out", get_peft_model(vit(root), lora()))
    path = folder / "posterior_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": base}))
    with pytest.raises(PosteriorCheckpointError, match=r"posterior_config\.json is damaged"):
        BayesianModel.from_pretrained(folder)
