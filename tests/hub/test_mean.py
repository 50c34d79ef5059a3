"""Checkpoints that describe code, other people's files, or models that no memory holds."""

import json
import pickle
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, GenerationConfig, GPT2Config, GPT2ForSequenceClassification

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import StoredPosterior, load_mean, read_base_config, save_posterior
from hf_scorevi.hub.model_config import read_model_config
from hf_scorevi.hub.untrusted import sha256
from hf_scorevi.posterior import Posterior, select_parameters
from tests.hub_server import HubServer, online
from tests.tiny_models import tiny_vit

MINE = "posterior_config.json"


def write(folder, model, family="isotropic"):
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig(family=family))
    model.save_pretrained(folder)
    save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(family=family), 24, 0.1))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A whole model, an adapter, and its base."""
    root = tmp_path_factory.mktemp("written")
    write(root / "whole", tiny_vit(), "low_rank")
    base = tiny_vit()
    base.save_pretrained(root / "base")
    base.name_or_path = str(root / "base")
    write(root / "adapter", get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])))
    return root


@pytest.fixture
def whole(written, tmp_path):
    return shutil.copytree(written / "whole", tmp_path / "whole")


@pytest.fixture
def adapter(written, tmp_path):
    return shutil.copytree(written / "adapter", tmp_path / "adapter")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def agree(folder):
    """Let the recorded hashes be those of the files: whoever can change one can change both."""
    for table, pattern in (("mean_sha256", "*model*.safetensors"), ("posterior_sha256", "posterior*.safetensors")):
        edit(folder / MINE, **{table: {path.name: sha256(path) for path in folder.glob(pattern)}})


@contextmanager
def room(megabytes=200, seconds=5):
    """Inside, nothing may take more memory than that, or more time."""
    resource = pytest.importorskip("resource")
    if not (statm := Path("/proc/self/statm")).exists():
        pytest.skip("needs Linux, to bound memory")
    pages = statm.read_text().split()[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(pages) * resource.getpagesize() + megabytes * 2**20, hard))
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - start < seconds


def refused(folder, message):
    with room(), pytest.raises(PosteriorCheckpointError, match=message):
        BayesianModel.from_pretrained(folder)


# --- code and pickles


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Fill a folder with everything that a library might execute; a question on the terminal fails."""
    sprung = tmp_path / "sprung"
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("a pickle was read"))

    def fill(folder):
        code = f"import pathlib\npathlib.Path({str(sprung)!r}).touch()\n"
        (folder / "custom_generate").mkdir()
        for name in ("modeling_evil.py", "configuration_evil.py", "custom_generate/generate.py"):
            (folder / name).write_text(code + "class Evil: pass\n")
        for name in ("pytorch_model.bin", "adapter_model.bin", "model.bin", "spk_dict.pt", "training_args.bin"):
            (folder / name).write_bytes(pickle.dumps(Trap(sprung)))
        return folder

    yield fill
    assert not sprung.exists()


CODE = {
    "auto_map": {
        "AutoConfig": "configuration_evil.Evil",
        "AutoModelForImageClassification": "evil/repo--modeling_evil.Evil",
        "AutoModelForCausalLM": "modeling_evil.Evil",
    },
    "custom_pipelines": {"evil": {"impl": "modeling_evil.Evil"}},
}


def test_code_that_a_configuration_names_is_left_alone(whole, trap):
    edit(whole / "config.json", **CODE, trust_remote_code=True)
    edit(trap(whole) / "config.json", transformers_weights="adapter_model.bin", attn_implementation="evil/kernel")
    edit(whole / "config.json", _attn_implementation="evil/kernel", experts_implementation="evil/kernel")
    assert torch.equal(load_mean(whole).classifier.weight, tiny_vit().classifier.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "evil", **CODE}, r"config\.json names the model type 'evil', .*never executed"),
        ({"model_type": None, **CODE}, "names the model type None"),
        ({"model_type": ["vit"]}, r"config\.json does not describe a model"),
        ({"architectures": ["Evil"], **CODE}, r"config\.json names the architecture 'Evil', .*never executed"),
        ({"architectures": ["AutoModel"], **CODE}, "names the architecture 'AutoModel'"),
        ({"architectures": ["pipeline"]}, "names the architecture 'pipeline'"),
        ({"architectures": [["ViTModel"]]}, r"config\.json .*architectures are \[\['ViTModel'\]\], where names"),
        ({"architectures": None}, "names the architecture None"),
        ({"architectures": ["BertModel"]}, r"config\.json does not describe a model|no weights for"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "asks for the quantisation"),
        ({"text_config": {"quantization_config": {"quant_method": "evil"}}}, "asks for the quantisation"),
    ],
)
def test_what_transformers_alone_cannot_build_is_refused(whole, trap, changes, message):
    edit(trap(whole) / "config.json", **changes)
    refused(whole, message)


def test_a_decoder_s_code_is_not_asked_about(whole, trap):
    """transformers would, for a part whose type has no such class of its own."""
    vit = json.loads((trap(whole) / "config.json").read_text())
    parts = {"encoder": vit, "decoder": vit | CODE, "model_type": "vision-encoder-decoder", **CODE}
    (whole / "config.json").write_text(json.dumps(parts | {"architectures": ["VisionEncoderDecoderModel"]}))
    refused(whole, r"config\.json does not describe a model")


@pytest.mark.parametrize(
    "name", ["../base/model.safetensors", "/etc/passwd", "pytorch_model.bin", "other.safetensors"]
)
def test_an_index_beside_the_weights_leads_nowhere(whole, trap, written, name):
    """It is not read: the weights are in the files whose hashes are recorded."""
    save_file(load_file(whole / "model.safetensors"), whole / "other.safetensors")
    trap(whole)
    mean = load_file(whole / "model.safetensors")
    keys = sorted(mean)
    (whole / "model.safetensors").unlink()
    for number, part in ((1, keys[:20]), (2, keys[20:])):
        save_file({key: mean[key] for key in part}, whole / f"model-0000{number}-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(keys, name)}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    (whole / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"of another mean")
    (whole / "adapter_config.json").write_text('{"base_model_name_or_path": "user/evil"}')
    agree(whole)
    edit(whole / MINE, mean_sha256={path.name: sha256(path) for path in whole.glob("model-*")})
    assert torch.equal(load_mean(whole).classifier.weight, mean["classifier.weight"])
    (whole / "model-00002-of-00002.safetensors").unlink()
    agree(whole)
    edit(whole / MINE, mean_sha256={path.name: sha256(path) for path in whole.glob("model-*")})
    refused(whole, "has no weights for 20 tensors of the ViTForImageClassification")


def test_a_folder_of_pickles_holds_no_weights(whole, trap):
    trap(whole)
    (whole / "model.safetensors").unlink()
    with pytest.raises(PosteriorCheckpointError, match=r"holds no weights: neither .*No other files are read"):
        load_mean(whole)


def test_symlinks_in_a_folder_of_ones_own_are_followed(whole):
    for name in ("model.safetensors", "posterior.safetensors", "config.json"):
        (whole / name).rename(whole.parent / name)
        (whole / name).symlink_to(whole.parent / name)
    assert BayesianModel.from_pretrained(whole).posterior.names


def test_the_mean_is_float32_whatever_dtype_says(whole):
    model = BayesianModel.from_pretrained(whole, dtype=torch.bfloat16, attn_implementation="eager")
    assert {p.dtype for p in model.model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "eager"
    assert model.config.name_or_path == model.model.name_or_path == str(whole)


def test_a_language_model_has_its_settings_for_generation(tmp_path, trap):
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16, n_positions=8))
    model.generation_config = GenerationConfig(max_new_tokens=5, eos_token_id=3)
    write(tmp_path, model)
    edit(trap(tmp_path) / "generation_config.json", custom_generate="evil/repo")
    loaded = BayesianModel.from_pretrained(tmp_path).model.generation_config
    assert (loaded.max_new_tokens, loaded.eos_token_id) == (5, 3)
    model.name_or_path = str(tmp_path)
    write(tmp_path / "adapter", get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)))
    assert BayesianModel.from_pretrained(tmp_path / "adapter").model.generation_config.max_new_tokens == 5
    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": NaN}')
    with pytest.raises(PosteriorCheckpointError, match=r"generation_config\.json cannot be read as JSON"):
        BayesianModel.from_pretrained(tmp_path)


# --- adapters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "XLORA", "adapters": {"0": "user/evil"}}, "an adapter of type 'XLORA'; those that are read"),
        ({"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "user/evil"}, "of type 'PROMPT_TUNING'"),
        ({"peft_type": "MULTITASK_PROMPT_TUNING"}, "of type 'MULTITASK_PROMPT_TUNING'"),
        ({"peft_type": "EVIL"}, "of type 'EVIL'"),
        ({"peft_type": ["LORA"]}, r"of type \['LORA'\]"),
        ({"peft_type": None}, "of type None"),
        ({"megatron_config": {"x": 1}, "megatron_core": "megatron.evil"}, "of type 'LORA' with megatron_config"),
        ({"layer_replication": [[0, 2]] * 1000}, "of type 'LORA' with layer_replication"),
        ({"r": 3}, r"adapter_config\.json does not describe a model .*size mismatch"),
        ({"r": 10**9}, "has r = 1000000000, too large for its weights"),
        ({"r": 0}, r"adapter_config\.json does not describe a model"),
        ({"rank_pattern": {"q_proj": 10**9}}, "has rank_pattern = 1000000000, too large for its weights"),
        ({"r": 900}, "size mismatch"),
        ({"target_modules": ["q_proj", "v_proj"]}, "has no weights for 4 tensors of the adapter"),
        ({"target_modules": ["nothing"]}, "Target modules .*nothing.* not found"),
        (
            {"modules_to_save": ["classifier"]},
            r"adapter_config\.json does not describe .*'base_model\.model\.classifier",
        ),
        ({"task_type": "EVIL"}, "Invalid task type"),
    ],
)
def test_an_adapter_that_is_not_made_of_its_weights_alone_is_refused(adapter, trap, changes, message):
    edit(trap(adapter) / "adapter_config.json", **changes)
    refused(adapter, message)


def test_code_that_an_adapter_names_is_left_alone(adapter, trap):
    mapping = {"parent_library": "modeling_evil", "base_model_class": "Evil"}
    edit(trap(adapter) / "adapter_config.json", auto_mapping=mapping, runtime_config={"x": 1}, unknown=1)
    edit(adapter / MINE, base_config=json.loads((adapter / MINE).read_text())["base_config"] | CODE)
    assert BayesianModel.from_pretrained(adapter).posterior.names


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_s_pickle_is_never_read(adapter, trap, beside):
    trap(adapter)
    (adapter / "adapter_model.safetensors").unlink()
    if beside:
        save_file({"x": torch.ones(1)}, adapter / "model.safetensors")
    agree(adapter)
    edit(
        adapter / MINE,
        mean_sha256={"model.safetensors": sha256(adapter / "model.safetensors")}
        if beside
        else {"adapter_model.safetensors": "0"},
    )
    refused(adapter, r"config\.json is missing" if beside else "belongs to another mean: adapter_model.safetensors")


def test_the_code_and_pickles_of_a_base_are_left_alone(adapter, trap, written, tmp_path):
    base = trap(shutil.copytree(written / "base", tmp_path / "base"))
    edit(base / "config.json", model_type="evil", **CODE)
    (base / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "user/evil"}')
    edit(adapter / "adapter_config.json", base_model_name_or_path=str(base))
    assert BayesianModel.from_pretrained(adapter).posterior.names
    (base / "model.safetensors").unlink()
    refused(adapter, r"base has no model\.safetensors\.index\.json; weights are read from safetensors files alone")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "mxfp4"}}, "only by bitsandbytes; for another, give Bayes"),
        ({"hidden_size": 10**9}, r"posterior_config\.json has 'hidden_size' = 1000000000, which cannot be right"),
        ({"hidden_size": 4096}, r"posterior_config\.json describes a model of more than"),
        ({"architectures": ["Evil"]}, "names the architecture 'Evil'"),
        ({"model_type": "evil"}, "names the model type 'evil'"),
    ],
)
def test_a_base_that_cannot_be_built_is_refused(adapter, changes, message):
    edit(adapter / MINE, base_config=json.loads((adapter / MINE).read_text())["base_config"] | changes)
    refused(adapter, message)


@pytest.mark.parametrize("base", [[], "x", {"num_labels": 10**9, "model_type": "vit"}, {"model_type": "evil"}, {}])
def test_the_recorded_base_is_believed_no_more_than_a_config(adapter, base):
    edit(adapter / MINE, base_config=base)
    with room(), pytest.raises(PosteriorCheckpointError, match=r"posterior_config\.json"):
        read_base_config(adapter)


# --- sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({key: 10**9}, f"config.json has '{key}' = 1000000000, which cannot be right")
            for key in ("num_hidden_layers", "hidden_size", "num_labels", "intermediate_size", "num_channels")
        ),
        ({"image_size": 10**7}, "config.json has 'image_size' = 10000000"),
        ({"image_size": [8, 10**7]}, "config.json has 'image_size' = 10000000"),
        ({"vision_config": {"deep": {"num_layers": 10**9}}}, "config.json has 'num_layers' = 1000000000"),
        ({"num_hidden_layers": 90_000}, r"describes a model of more than [\d,]+ numbers in 1,800 tensors"),
        ({"hidden_size": 90_000}, "describes a model of more than 10,0"),
        ({"image_size": 90_000}, "describes a model of more than 10,0"),
        ({"num_labels": 90_000, "id2label": None, "label2id": None}, "size mismatch|mismatched"),
        ({"hidden_size": -16}, "does not describe a model"),
        ({"hidden_size": 0}, "does not describe a model"),
        ({"num_attention_heads": 0}, "does not describe a model"),
        ({"patch_size": 0}, "does not describe a model"),
        ({"hidden_size": "16"}, "does not describe a model"),
        ({"hidden_act": "evil"}, "does not describe a model"),
        ({"num_hidden_layers": 3}, "has no weights for 16 tensors"),
        ({"id2label": {"x": 1}}, "does not describe a model"),
    ],
)  # fmt: skip
def test_a_model_that_its_weights_cannot_fill_is_refused_before_it_is_built(whole, changes, message):
    edit(whole / "config.json", **changes)
    refused(whole, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 10**9}, r"has shape \(\d+, 8\); a posterior of family 'low_rank' .* needs"),
        ({"rank": 2**63}, "rank must be a whole number of at least 1 and at most"),
        ({"family": "full"}, "has unexpected 40 of the 40 tensors"),
        ({"family": ["full"]}, r"posterior_config\.json is damaged"),
        ({"temperature": "nan"}, "temperature must be a positive number"),
        ({"target": 5}, r"posterior_config\.json is damaged"),
        ({"exclude": [5]}, "exclude must be names or globs"),
        ({"evil": 1}, "Unknown fields"),
    ],
)
def test_a_posterior_of_absurd_settings_is_refused(whole, changes, message):
    edit(whole / MINE, posterior=json.loads((whole / MINE).read_text())["posterior"] | changes)
    refused(whole, message)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"classifier.bias": torch.zeros(0)}, r"'classifier\.bias' has shape \(0,\)"),
        ({"classifier.bias": torch.ones(3, 1)}, r"'classifier\.bias' has shape \(3, 1\)"),
        *(
            ({"classifier.bias": torch.ones(3).to(dtype)}, f"'classifier.bias' is stored as {name}; only F32")
            for dtype, name in (
                (torch.int8, "I8"), (torch.bool, "BOOL"), (torch.bfloat16, "BF16"), (torch.float64, "F64"),
                (torch.float8_e4m3fn, "F8_E4M3"), (torch.complex64, "C64"), (torch.uint64, "U64"),
            )
        ),
        ({"classifier.bias": torch.tensor([1.0, 0.0, 1.0])}, "is not positive everywhere"),
        ({"classifier.bias": torch.tensor([1.0, torch.nan, 1.0])}, "is not finite everywhere"),
        ({"classifier.bias.factor": torch.full((3, 3), torch.inf)}, "'classifier.bias.factor' is not finite"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_posterior_of_wrong_tensors_is_refused(whole, tensors, message):
    path = whole / "posterior.safetensors"
    save_file(load_file(path) | tensors, path)
    agree(whole)
    refused(whole, message)


def test_a_posterior_of_very_many_tensors_is_refused(whole):
    empty = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}
    header = json.dumps({f"x{i}": empty for i in range(100_000)}).encode()
    (whole / "posterior.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    agree(whole)
    refused(whole, "lacks 80 of the 80 tensors")


def test_a_class_that_counts_its_own_way_is_still_bounded(tmp_path):
    model = GPT2ForSequenceClassification(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16, n_positions=8))
    write(tmp_path, model)
    assert BayesianModel.from_pretrained(tmp_path).posterior.names
    edit(tmp_path / "config.json", n_positions=10**9)
    refused(tmp_path, r"config\.json")
    edit(tmp_path / "config.json", n_positions=8, n_layer=10**6)
    refused(tmp_path, r"config\.json")


# --- models of others


@pytest.fixture
def hub(tmp_path):
    """A Hub whose user is signed in; it has what is named, and is not to be asked."""
    with HubServer() as hub, online(hub, tmp_path / "home"):
        hub.commit("user/evil", {"config.json": json.dumps({"model_type": "resnet"})})
        yield hub
        assert not hub.requests


@pytest.mark.parametrize("place", [(), ("text_config",), ("backbone_config",)])
def test_a_backbone_of_another_repository_is_not_fetched(whole, hub, place):
    """transformers would ask for it with the user's token, local_files_only or not."""
    path = whole / "config.json"
    values = named = {"model_type": "upernet", "architectures": ["UperNetForSemanticSegmentation"]}
    for key in place:
        named[key] = named = {"model_type": "upernet"}
    named |= {"backbone": "user/evil", "backbone_config": None}
    path.write_text(json.dumps(values))
    with pytest.raises(PosteriorCheckpointError, match=r"config\.json (names another|describes a model of more)"):
        BayesianModel.from_pretrained(whole, local_files_only=True)


def test_no_configuration_of_transformers_has_a_hub_asked(hub, tmp_path):
    path, built = tmp_path / "config.json", 0
    others = {
        "backbone": "user/evil",
        "backbone_config": None,
        "use_timm_backbone": False,
        "name_or_path": "user/evil",
    }
    parts = ("text_config", "vision_config", "encoder", "decoder", "audio_encoder", "vocoder", "tokenizer_class")
    for kind in sorted(CONFIG_MAPPING):
        for values in (others | {"use_pretrained_backbone": True}, others | dict.fromkeys(parts, "user/evil")):
            path.write_text(json.dumps({"model_type": kind} | values))
            try:
                read_model_config(path)
                built += 1
            except (PosteriorCheckpointError, ImportError):  # of timm, for instance
                pass
    assert built > 200


@pytest.mark.parametrize("name", ["hf-hub:user/evil", "hf_hub:user/evil", "local-dir:/etc", "HF-Hub:user/evil"])
@pytest.mark.parametrize("key", ["backbone", "architecture"])
def test_timm_s_names_of_elsewhere_are_refused(whole, hub, key, name):
    kind = {"backbone": "timm_backbone", "architecture": "timm_wrapper"}[key]
    edit(whole / "config.json", model_type=kind, **{key: name})
    refused(whole, f"has {key!r} = {name!r}, a model from elsewhere")


def test_kernels_of_the_hub_are_not_asked_for_under_any_name(whole, hub):
    names = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
    names += ("experts_implementation", "_experts_implementation_internal")
    edit(whole / "config.json", **dict.fromkeys(names, "user/evil"))
    model = load_mean(whole)
    assert model.config._attn_implementation == tiny_vit().config._attn_implementation


def test_a_user_s_own_wish_is_not_a_file_s(whole):
    assert BayesianModel.from_pretrained(whole, attn_implementation="eager").config._attn_implementation == "eager"
