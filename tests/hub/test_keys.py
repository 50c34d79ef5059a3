from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from hf_scorevi.hub import file_keys
from tests.tiny_models import LinearRegression, tiny_resnet, tiny_vit


def test_every_key_is_in_the_saved_file(tmp_path):
    for model in (tiny_vit(), tiny_resnet()):
        model.save_pretrained(tmp_path)
        names = [name for name, _ in model.named_parameters()]
        keys = file_keys(model, names)
        assert set(keys.values()) <= set(load_file(tmp_path / "model.safetensors"))
        assert len(set(keys.values())) == len(names)


def test_an_adapters_keys_are_peft_s(tmp_path):
    model = get_peft_model(tiny_vit(), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    model.save_pretrained(tmp_path)
    assert set(file_keys(model, trainable).values()) == set(load_file(tmp_path / "adapter_model.safetensors"))


def test_a_model_of_ones_own_keeps_its_names():
    assert file_keys(LinearRegression(2, 1.0), ["weight"]) == {"weight": "weight"}
