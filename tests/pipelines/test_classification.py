"""Pipelines of text, tokens and audio with their uncertainties, and the stock ones with a `BayesianModel`."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    BertForSequenceClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    pipeline,
)
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from hf_scorevi import (
    BayesianAudioClassificationPipeline,
    BayesianModel,
    BayesianTextClassificationPipeline,
    BayesianTokenClassificationPipeline,
)
from hf_scorevi.errors import InputError
from hf_scorevi.pipelines.loading import NotLoadedError
from tests.hub_server import HubServer, online
from tests.sounds import extractor, sound, tiny_ast, wav
from tests.test_prediction import bayesian
from tests.text import tiny_bert, tiny_tagger, tokenizer

UNCERTAINTIES = ("entropy", "expected_entropy", "mutual_information")
TEXTS = ["the film was good .", "a bad book", "lisbon is fine"]
SOUNDS = [sound(label, label) for label in range(3)]
TAGS = {0: "O", 1: "B-CITY", 2: "I-CITY"}


def saved(folder, model, part):
    bayesian(model).save_pretrained(folder)
    part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    tags = {"id2label": TAGS, "label2id": {name: i for i, name in TAGS.items()}}
    saved(root / "text", tiny_bert(), tokenizer())
    saved(root / "token", tiny_tagger(**tags), tokenizer())
    saved(root / "audio", tiny_ast(), extractor())
    return root


def scores(model, predictions):
    by_name = {own["label"]: own["score"] for own in predictions}
    return torch.tensor([by_name[name] for name in model.config.id2label.values()])


def check(model, found, expected, tolerance=1e-5):
    """Dictionaries of the pipeline against what the model itself predicts for each of its inputs."""
    assert len(found) == len(expected)
    for own, output in zip(found, expected, strict=True):
        torch.testing.assert_close(scores(model, own["predictions"]), output.probs[0], atol=tolerance, rtol=1e-4)
        assert (own["label"], own["score"]) == (own["predictions"][0]["label"], own["predictions"][0]["score"])
        for name in UNCERTAINTIES:
            assert own[name] == pytest.approx(getattr(output, name).item(), abs=1e-5), name


@pytest.mark.parametrize("by_name", [True, False])
def test_texts_and_pairs_of_texts(folders, by_name):
    folder = str(folders / "text")
    model = BayesianModel.from_pretrained(folder)
    given = {"model": folder} if by_name else {"model": model, "tokenizer": folder}
    classifier = pipeline("bayesian-text-classification", **given, device="cpu")
    assert type(classifier) is BayesianTextClassificationPipeline
    expected = [model.predict(**tokenizer()(text, return_tensors="pt"), num_samples=16, seed=0) for text in TEXTS]
    for batch_size in (1, 2):
        check(model, classifier(TEXTS, batch_size=batch_size), expected)
    pair = tokenizer()(TEXTS[0], TEXTS[1], return_tensors="pt", truncation=True, max_length=8)
    found = classifier({"text": TEXTS[0], "text_pair": TEXTS[1]}, num_samples=4, seed=5, truncation=True, max_length=8)
    check(model, [found], [model.predict(**pair, num_samples=4, seed=5)])
    assert len(classifier(TEXTS[0], top_k=1)["predictions"]) == 1


@pytest.mark.parametrize("by_name", [True, False])
def test_recordings(folders, tmp_path, by_name):
    folder = str(folders / "audio")
    model = BayesianModel.from_pretrained(folder)
    given = {"model": folder} if by_name else {"model": model, "feature_extractor": folder}
    classifier = pipeline("bayesian-audio-classification", **given, device="cpu")
    assert type(classifier) is BayesianAudioClassificationPipeline
    inputs = [extractor()(own, sampling_rate=16000, return_tensors="pt") for own in SOUNDS]
    expected = [model.predict(**own, num_samples=16, seed=0) for own in inputs]
    check(model, classifier(SOUNDS, batch_size=2), expected)
    found = classifier({"array": SOUNDS[1], "sampling_rate": 16000}, num_samples=3, seed=1, top_k=2)
    assert len(found["predictions"]) == 2
    own = model.predict(**inputs[1], num_samples=3, seed=1)
    assert found["entropy"] == pytest.approx(own.entropy.item(), abs=1e-5)
    (tmp_path / "a.wav").write_bytes(wav(SOUNDS[1]))
    assert classifier(str(tmp_path / "a.wav"), num_samples=3, seed=1)["entropy"] == pytest.approx(
        own.entropy.item(), abs=1e-3
    )
    fast = {"array": sound(1, 1, rate=48000), "sampling_rate": 48000}  # brought to the model's rate
    assert scores(model, classifier(fast)["predictions"]) == pytest.approx(expected[1].probs[0].tolist(), abs=0.1)


def test_tokens_have_their_own_uncertainties_and_entities_the_means(folders):
    folder, text = str(folders / "token"), "ada was in lisbon ."
    model = BayesianModel.from_pretrained(folder)
    tagger = pipeline("bayesian-token-classification", model=folder, ignore_labels=[], device="cpu")
    assert type(tagger) is BayesianTokenClassificationPipeline
    output = model.predict(**tokenizer()(text, return_tensors="pt"), num_samples=16, seed=0)
    of_tokens = torch.stack([getattr(output, name)[0, 1:-1] for name in UNCERTAINTIES], -1).double()
    found = tagger(text)
    assert [own["word"] for own in found] == ["ada", "was", "in", "lis", "##bon", "."]
    for i, own in enumerate(found):
        probs = output.probs[0, i + 1]
        assert own["entity"] == TAGS[int(probs.argmax())]
        assert own["score"] == pytest.approx(probs.max().item(), abs=1e-5)
        assert [own[name] for name in UNCERTAINTIES] == pytest.approx(of_tokens[i].tolist(), abs=1e-5)
    spans = [(0, 3), (4, 7), (8, 10), (11, 14), (14, 17), (18, 19)]  # of the tokens
    for strategy in ("simple", "first", "average", "max"):
        groups = tagger(text, aggregation_strategy=strategy)
        covered = []
        for own in groups:
            inside = [i for i, (start, end) in enumerate(spans) if own["start"] <= start and end <= own["end"]]
            means = of_tokens[inside].mean(0).tolist()
            assert [own[name] for name in UNCERTAINTIES] == pytest.approx(means, abs=1e-5)
            covered += inside
        assert covered == list(range(6))
        assert [sorted(own) for own in tagger([text] * 2, aggregation_strategy=strategy)[1]] == [
            sorted(own) for own in groups
        ]
    json.dumps(found)


def test_a_long_text_is_cut_into_overlapping_parts(folders):
    tagger = pipeline("bayesian-token-classification", model=str(folders / "token"), ignore_labels=[], device="cpu")
    text = " ".join(["ada was in lisbon ."] * 5)
    assert max(own["end"] for own in tagger(text)) < len(text)
    found = tagger(text, aggregation_strategy="simple", stride=2)
    assert max(own["end"] for own in found) == len(text)
    assert all(own["mutual_information"] > 0 for own in found)


def test_an_adapter_s_tokenizer_is_that_of_its_base(tmp_path):
    base = tiny_bert()
    base.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    with HubServer() as hub, online(hub, tmp_path / "home"):
        hub.commit("user/base", {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()})
        base = BertForSequenceClassification.from_pretrained("user/base")
        model = bayesian(get_peft_model(base, LoraConfig(r=2, target_modules=["query"])))
        model.save_pretrained(tmp_path / "adapter")
        hub.commit("user/adapter", {p.name: p.read_bytes() for p in (tmp_path / "adapter").iterdir()})
        expected = model.predict(**tokenizer()(TEXTS[0], return_tensors="pt"), num_samples=16, seed=0)
        for name in ("user/adapter", str(tmp_path / "adapter")):
            classifier = pipeline("bayesian-text-classification", model=name, device="cpu")
            check(model, [classifier(TEXTS[0])], [expected])


def test_others_are_refused(folders, tmp_path):
    with pytest.raises(TypeError, match=r'needs a BayesianModel.* or use "text-classification"'):
        pipeline("bayesian-text-classification", model=tiny_bert(), tokenizer=tokenizer(), device="cpu")
    model = BayesianModel.from_pretrained(folders / "token")
    with pytest.raises(ValueError, match="choose one of several classes, and this one predicts tokens"):
        pipeline("bayesian-text-classification", model=model, tokenizer=tokenizer(), device="cpu")
    with pytest.raises(ValueError, match=r"needs tokenizer=\.\.\., for a model that is given itself"):
        pipeline("bayesian-token-classification", model=model, device="cpu")
    bayesian(tiny_bert()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no tokenizer that is read here: there is no tokenizer\.json"):
        pipeline("bayesian-text-classification", model=str(tmp_path), device="cpu")
    (tmp_path / "posterior.safetensors").unlink()
    with pytest.raises(NotLoadedError):
        pipeline("bayesian-text-classification", model=str(tmp_path), device="cpu")


@pytest.mark.parametrize(("task", "file"), [("text", "tokenizer_config.json"), ("audio", "preprocessor_config.json")])
def test_code_and_files_that_are_named_beside_the_model_are_left_alone(folders, tmp_path, monkeypatch, task, file):
    folder = shutil.copytree(folders / task, tmp_path / task)
    monkeypatch.setattr("builtins.input", lambda *said: "y")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Evil: pass\n")
    names = {name: "evil.Evil" for name in ("AutoTokenizer", "AutoFeatureExtractor", "AutoConfig", "AutoProcessor")}
    other = {"tokenizer_file": "/etc/hostname", "vocab_file": "/etc/hostname", "trust_remote_code": True}
    values = json.loads((folder / file).read_text()) | {"auto_map": names} | other
    (folder / file).write_text(json.dumps(values))
    inputs = TEXTS[0] if task == "text" else SOUNDS[0]
    found = [pipeline(f"bayesian-{task}-classification", model=str(own), device="cpu")(inputs)
             for own in (folders / task, folder)]  # fmt: skip
    assert found[0] == found[1] and not (tmp_path / "mark").exists()
    with pytest.raises(InputError, match="never executes code from a checkpoint: leave out trust_remote_code"):
        pipeline(f"bayesian-{task}-classification", model=str(folder), trust_remote_code=True, device="cpu")


# The stock pipelines


def test_the_stock_pipelines_of_text_and_audio_take_the_model(folders, caplog):
    text = BayesianModel.from_pretrained(folders / "text")
    found = pipeline("text-classification", model=text, tokenizer=tokenizer(), device="cpu")(TEXTS, top_k=None)
    for own, words in zip(found, TEXTS, strict=True):
        output = text.predict(**tokenizer()(words, return_tensors="pt"), num_samples=16, seed=0)
        torch.testing.assert_close(scores(text, own), output.probs[0], atol=1e-5, rtol=1e-4)
    audio = BayesianModel.from_pretrained(folders / "audio")
    found = pipeline("audio-classification", model=audio, feature_extractor=extractor(), device="cpu")(SOUNDS)
    for own, samples in zip(found, SOUNDS, strict=True):
        inputs = extractor()(samples, sampling_rate=16000, return_tensors="pt")
        output = audio.predict(**inputs, num_samples=16, seed=0)
        torch.testing.assert_close(scores(audio, own), output.probs[0], atol=1e-5, rtol=1e-4)
    tagger = BayesianModel.from_pretrained(folders / "token")
    entities = pipeline("token-classification", model=tagger, tokenizer=tokenizer(), ignore_labels=[], device="cpu")(
        TEXTS[0]
    )
    output = tagger.predict(**tokenizer()(TEXTS[0], return_tensors="pt"), num_samples=16, seed=0)
    expected = output.probs[0, 1:-1].max(-1).values.tolist()
    assert [float(own["score"]) for own in entities] == pytest.approx(expected, abs=1e-5)
    assert "not supported" not in caplog.text


def test_the_stock_pipeline_of_videos_takes_the_model(monkeypatch, caplog):
    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=8,
        patch_size=4,
        num_frames=2,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        num_labels=3,
    )
    model = bayesian(VideoMAEForVideoClassification(config))
    frames = torch.randn(1, 2, 3, 8, 8)

    class Processor:
        """In the place of one that decodes a file, which needs PyAV."""

        def __call__(self, video, **kwargs):
            return self

        def to(self, dtype):
            return {"pixel_values": frames}

    monkeypatch.setattr("transformers.pipelines.video_classification.requires_backends", lambda *backends: None)
    found = pipeline("video-classification", model=model, video_processor=Processor(), device="cpu")("a.mp4")
    output = model.predict(pixel_values=frames, num_samples=16, seed=0)
    torch.testing.assert_close(scores(model, found), output.probs[0], atol=1e-5, rtol=1e-4)
    assert "not supported" not in caplog.text


def test_the_stock_pipeline_of_segmentation_takes_the_model(caplog):
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8, num_labels=3
    )
    model = bayesian(SegformerForSemanticSegmentation(config))
    processor = SegformerImageProcessorPil(size={"height": 32, "width": 32})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))
    found = pipeline("image-segmentation", model=model, image_processor=processor, device="cpu")(image)
    masks = np.stack([np.asarray(own["mask"]) for own in found])
    assert masks.shape[1:] == (40, 48) and (masks.astype(bool).sum(0) == 1).all()
    logits = model(**processor(image, return_tensors="pt")).logits
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(1, 8, 8))  # a predictive over the classes of each pixel
    assert "not supported" not in caplog.text
