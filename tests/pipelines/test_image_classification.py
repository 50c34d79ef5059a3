import subprocess
import sys

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoImageProcessor, BertConfig, BertForSequenceClassification, pipeline
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_scorevi import BayesianImageClassificationPipeline, BayesianModel
from tests.hub_server import HubServer, online
from tests.test_prediction import bayesian
from tests.tiny_models import tiny_vit

TASK = "bayesian-image-classification"
PICTURES = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 10, 3), dtype=np.uint8)) for seed in range(3)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipelines")
    bayesian(tiny_vit(num_channels=3, id2label={0: "cat", 1: "dog", 2: "owl"})).save_pretrained(path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(path)
    return path


@pytest.fixture
def model(folder):
    return BayesianModel.from_pretrained(folder)


@pytest.fixture
def expected(folder, model):
    processor = AutoImageProcessor.from_pretrained(folder)
    return model.predict(**processor(PICTURES, return_tensors="pt"), num_samples=16, seed=0)


def scores(found):
    return torch.tensor(
        [[{own["label"]: own["score"] for own in one}[name] for name in ("cat", "dog", "owl")] for one in found]
    )


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_stock_pipeline_takes_the_model(folder, model, expected, caplog, batch_size):
    classifier = pipeline("image-classification", model=model, image_processor=str(folder), device="cpu")
    found = classifier(PICTURES, batch_size=batch_size)
    torch.testing.assert_close(scores(found), expected.probs, atol=1e-6, rtol=1e-5)
    assert "not supported" not in caplog.text
    assert len(classifier(PICTURES[0], top_k=2)) == 2
    assert "BayesianModel" in repr(classifier)


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_ours_adds_the_uncertainty(folder, model, expected, by_name, batch_size):
    given = {"model": str(folder)} if by_name else {"model": model, "image_processor": str(folder)}
    classifier = pipeline(TASK, **given, device="cpu")
    assert type(classifier) is BayesianImageClassificationPipeline
    found = classifier(PICTURES, batch_size=batch_size)
    torch.testing.assert_close(scores([own["predictions"] for own in found]), expected.probs, atol=1e-6, rtol=1e-5)
    for name in ("entropy", "expected_entropy", "mutual_information"):
        torch.testing.assert_close(
            torch.tensor([own[name] for own in found]), getattr(expected, name), atol=1e-5, rtol=1e-4
        )
    for own in found:
        assert (own["label"], own["score"]) == (own["predictions"][0]["label"], own["predictions"][0]["score"])


def test_draws_are_chosen_in_the_call_or_before(folder, model):
    classifier = pipeline(TASK, model=model, image_processor=str(folder), num_samples=3, seed=5, device="cpu")
    before = classifier(PICTURES[0])
    assert classifier(PICTURES[0], num_samples=3, seed=5) == before
    assert classifier(PICTURES[0], seed=6)["entropy"] != before["entropy"]
    assert len(classifier(PICTURES[0], top_k=1)["predictions"]) == 1


def test_from_the_hub(folder, expected, tmp_path):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with HubServer() as hub, online(hub, tmp_path):
        hub.commit("user/pets", files)
        classifier = pipeline(TASK, model="user/pets", device="cpu")
        torch.testing.assert_close(
            scores([classifier(PICTURES[0])["predictions"]]), expected.probs[:1], atol=1e-6, rtol=1e-5
        )
        stock = pipeline(
            "image-classification",
            model=BayesianModel.from_pretrained("user/pets"),
            image_processor="user/pets",
            device="cpu",
        )
        torch.testing.assert_close(scores([stock(PICTURES[0])]), expected.probs[:1], atol=1e-6, rtol=1e-5)
        plain = pipeline("image-classification", model="user/pets", device="cpu")  # the mean's, as for anybody
        mean = scores([plain(PICTURES[0])])
    assert not torch.allclose(mean, expected.probs[:1], atol=1e-3)


def test_a_plain_model_is_refused_and_a_name_is_not_taken_for_one(folder, tmp_path):
    tiny_vit(num_channels=3).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="needs a BayesianModel"):
        pipeline(TASK, model=tiny_vit(num_channels=3), image_processor=str(folder), device="cpu")
    with pytest.raises(Exception, match=r"no posterior|posterior_config"):
        pipeline(TASK, model=str(tmp_path), device="cpu")


def test_other_outputs_are_refused(folder):
    model = bayesian(tiny_vit(num_channels=3, num_labels=1), noise_variance=1.0)
    with pytest.raises(ValueError, match="one of several classes"):
        pipeline(TASK, model=model, image_processor=str(folder), device="cpu")


def test_an_adapter_works_as_an_object(folder):
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    model = bayesian(get_peft_model(tiny_vit(num_channels=3), lora))
    classifier = pipeline(TASK, model=model, image_processor=str(folder), device="cpu")
    assert classifier(PICTURES[0])["mutual_information"] > 0


def test_text_too():
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=3
    )
    model = bayesian(BertForSequenceClassification(config))

    class Tokenizer:
        def __call__(self, text, **kwargs):
            return {"input_ids": torch.tensor([[1, 2, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}

    from transformers import TextClassificationPipeline

    found = TextClassificationPipeline(model=model, tokenizer=Tokenizer(), device="cpu")("a", top_k=3)
    probs = model.predict(**Tokenizer()("a"), num_samples=16, seed=0).probs
    assert sorted(own["score"] for own in found) == pytest.approx(sorted(probs[0].tolist()), rel=1e-5)


def test_the_task_is_known_where_the_model_is():
    code = (
        "from hf_scorevi import BayesianModel; from transformers.pipelines import PIPELINE_REGISTRY as known; "
        "known.check_task('bayesian-image-classification')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
