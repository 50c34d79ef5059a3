"""What the heads of transformers' models are the likelihood of: from their logits and SciPy, and what is refused."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from scipy.special import log_expit, log_softmax

from hf_scorevi.errors import InputError
from hf_scorevi.heads import IGNORED, find_head, pipeline_tag, supported_heads, task_of
from tests.architectures import HEADS, head_inputs, head_model
from tests.forecasters import tiny_koopa, tiny_patchtst

HAS_CLASSES = {"num_labels": 3}
FORECASTERS = {"KoopaForPrediction": tiny_koopa, "PatchTSTForPrediction": tiny_patchtst}
# https://huggingface.co/tasks, and some that have no page there.
HUB_TASKS = (
    "audio-classification",
    "automatic-speech-recognition",
    "document-question-answering",
    "fill-mask",
    "image-classification",
    "image-segmentation",
    "image-text-to-text",
    "multiple-choice",
    "question-answering",
    "text-classification",
    "text-generation",
    "text2text-generation",
    "time-series-forecasting",
    "token-classification",
    "video-classification",
)


def labels_for(head, inputs) -> dict[str, torch.Tensor]:
    """Labels of which some are ignored, unlike in number from row to row."""
    generator = torch.Generator().manual_seed(2)
    if head.task == "spans":
        return {"start_positions": torch.tensor([1, 0, 2]), "end_positions": torch.tensor([3, 8, 4])}
    if head.task == "pixels":
        labels = torch.randint(3, (3, *inputs["pixel_values"].shape[-2:]), generator=generator)
        labels[0, :5], labels[2, :, 3:20] = head.ignore_index, head.ignore_index
        return {"labels": labels}
    if head.task == "tokens":
        ids = inputs.get("input_ids")
        labels = torch.randint(3, (3, 7) if ids is None else ids.shape, generator=generator)
        labels[0, :4], labels[1, -2:], labels[2, 2] = IGNORED, IGNORED, IGNORED
        return {"labels": labels}
    if head.task == "classes":
        return {"labels": torch.tensor([0, 1, 1])}
    if head.task == "labels":
        return {"labels": torch.randint(2, (3, head.terms), generator=generator).float()}
    return {"labels": torch.randn(*((3,) if head.terms == 1 else (3, head.terms)), generator=generator)}


def minus_log_likelihood(head, batch, outputs) -> tuple[float, int]:
    """Its sum over the batch, and the number of terms."""
    predicted = [tensor.detach().double() for tensor in head.all_predicted(outputs)]
    if head.likelihood == "gaussian":  # of variance ½, but for a constant: what a squared error is
        residual = predicted[0].reshape(batch["labels"].shape) - batch["labels"]
        return residual.square().sum().item(), residual.numel()
    if head.likelihood == "bernoulli":
        sign = 2 * batch["labels"].numpy() - 1
        return -log_expit(sign * predicted[0].numpy()).sum(), sign.size
    total, terms = 0.0, 0
    for logits, labels in zip(predicted, head.labels(batch), strict=True):
        logits, classes = head.term_logits(logits, labels).numpy(), labels.numpy()
        assert logits.shape[:-1] == classes.shape
        seen = classes != IGNORED
        total -= np.take_along_axis(log_softmax(logits[seen], axis=-1), classes[seen][:, None], axis=-1).sum()
        terms += seen.sum()
    return total, int(terms)


def check(model) -> None:
    """In evaluation and in training, where logits differ but the loss is that of the same ones."""
    head, inputs = find_head(model), head_inputs(model)
    batch = inputs | labels_for(head, inputs)
    for mode in (False, True):
        torch.manual_seed(0)
        with torch.no_grad():
            outputs = model.train(mode)(**batch)
        expected, terms = minus_log_likelihood(head, batch, outputs)
        count = head.count(batch).item()
        assert terms == (count if head.counts_labels else count * head.terms)
        assert terms * outputs.loss.item() == pytest.approx(expected, rel=1e-5)
        if head.counts_labels:
            assert 3 < terms < batch["labels"].numel()


@pytest.mark.parametrize("name", HEADS)
def test_terms_times_loss_are_minus_the_log_likelihood(name):
    check(head_model(name, **(HAS_CLASSES if name.endswith(("Classification", "Segmentation")) else {})))


CATEGORICAL = ["Wav2Vec2ForSequenceClassification", "WhisperForAudioClassification"]  # whatever problem_type says
KINDS = ("SequenceClassification", "ImageClassification", "VideoClassification", "AudioClassification")
SEQUENCE = [name for name in HEADS if name.endswith(KINDS) and name not in CATEGORICAL]


@pytest.mark.parametrize("settings", [{"num_labels": 1}, {"num_labels": 3, "problem_type": "regression"}])
@pytest.mark.parametrize("name", SEQUENCE)
def test_a_regression_is_a_squared_error_of_each_number(name, settings):
    model = head_model(name, **settings)
    head = find_head(model)
    assert (head.task, head.likelihood, head.terms) == ("numbers", "gaussian", settings["num_labels"])
    check(model)


@pytest.mark.parametrize("name", SEQUENCE)
def test_several_labels_are_several_terms(name):
    model = head_model(name, num_labels=4, problem_type="multi_label_classification")
    head = find_head(model)
    assert (head.task, head.likelihood, head.terms) == ("labels", "bernoulli", 4)
    check(model)


@pytest.mark.parametrize("settings", [{"num_labels": 3, "problem_type": "regression"}, {"num_labels": 2}])
@pytest.mark.parametrize("name", CATEGORICAL)
def test_audio_classifiers_heed_no_problem_type(name, settings):
    model = head_model(name, **settings)
    assert find_head(model).task == "classes"
    check(model)


@pytest.mark.parametrize("mode", [False, True])
def test_ends_of_a_span_beyond_the_text_are_no_terms(mode):
    model = head_model("BertForQuestionAnswering").train(mode)
    inputs = head_inputs(model)
    batch = inputs | {"start_positions": torch.tensor([1, 99, -1]), "end_positions": torch.tensor([3, 10, 4])}
    head = find_head(model)
    with torch.no_grad():
        outputs = model(**batch)
    expected, terms = minus_log_likelihood(head, batch, outputs)
    assert terms == 4 == head.count(batch) * head.terms
    assert terms * outputs.loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_class_that_is_ignored_is_no_term():
    model = head_model("BertForSequenceClassification", **HAS_CLASSES).eval()
    batch = head_inputs(model) | {"labels": torch.tensor([2, IGNORED, 0])}
    with torch.no_grad():
        outputs = model(**batch)
    expected, terms = minus_log_likelihood(find_head(model), batch, outputs)
    assert terms == 2 == find_head(model).count(batch)
    assert terms * outputs.loss.item() == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_shifted_already_stay_as_they_are():
    model = head_model("LlamaForCausalLM").eval()
    batch = head_inputs(model) | {"labels": torch.zeros(3, 10, dtype=torch.long)}
    shifted = torch.randint(30, (3, 10), generator=torch.Generator().manual_seed(0))
    shifted[0, 5:] = IGNORED
    batch["shift_labels"] = shifted
    with torch.no_grad():
        outputs = model(**batch)
    expected, terms = minus_log_likelihood(find_head(model), batch, outputs)
    assert terms == 25 == find_head(model).count(batch)
    assert terms * outputs.loss.item() == pytest.approx(expected, rel=1e-5)


# Classes, and what tells the way out.
REFUSED = {
    "BertForPreTraining": "head with a likelihood: .*a language model",
    "BertModel": "classification of sequences",
    "BlipForConditionalGeneration": "head with a likelihood",
    "CLIPModel": "classification of sequences, images",
    "DPTForSemanticSegmentation": "classification of .*pixels",
    "DeiTForImageClassificationWithTeacher": "head with a likelihood",
    "DetrForObjectDetection": "classification of .*pixels",
    "GLPNForDepthEstimation": "head with a likelihood",
    "GitForCausalLM": "head with a likelihood",
    "LukeForMaskedLM": "head with a likelihood",
    "ViTForMaskedImageModeling": "classification of sequences, images",
    "ViTMAEForPreTraining": "classification of sequences, images",
    "Wav2Vec2ForCTC": "Train a sequence-to-sequence model",
    "Wav2Vec2ForXVector": "head with a likelihood",
}


def unbuilt(name: str, **settings):
    """A model of a class with its configuration alone, which is all that is looked at."""
    kind = getattr(transformers, name)
    model = kind.__new__(kind)
    torch.nn.Module.__init__(model)
    model.config = kind.config_class(**settings)
    return model


@pytest.mark.parametrize(("name", "remedy"), REFUSED.items())
def test_other_losses_are_refused_and_the_way_out_named(name, remedy):
    with pytest.raises(InputError, match=f"The loss of {name} .*no posterior.*{remedy}"):
        find_head(unbuilt(name))


@pytest.mark.parametrize(
    ("name", "settings", "remedy"),
    [
        ("MixtralForCausalLM", {"output_router_logits": True}, "output_router_logits=False"),
        ("SwitchTransformersForConditionalGeneration", {"output_router_logits": True}, "output_router_logits=False"),
        ("BambaForCausalLM", {"z_loss_coefficient": 1e-4}, r"z_loss_coefficient=0\.0"),
        ("BeitForSemanticSegmentation", {"use_auxiliary_head": True}, "use_auxiliary_head=False"),
        ("UperNetForSemanticSegmentation", {"use_auxiliary_head": True}, "use_auxiliary_head=False"),
        ("SegformerForSemanticSegmentation", {"num_labels": 1}, "Give it two classes"),
        ("ModernBertForMaskedLM", {"sparse_prediction": True}, "sparse_prediction=False"),
    ],
)
def test_settings_that_change_the_loss_are_refused_and_the_way_out_named(name, settings, remedy):
    with pytest.raises(InputError, match=f"{name}.*{remedy}"):
        find_head(unbuilt(name, **(HEADS.get(name, {}) | settings)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("BeitForImageClassification", {"use_auxiliary_head": True}),
        ("MixtralForSequenceClassification", {"output_router_logits": True}),
    ],
)
def test_settings_that_leave_the_loss_alone_are_not_refused(name, settings):
    assert find_head(unbuilt(name, **settings)).task == "classes"


def test_a_class_is_told_by_where_it_comes_from():
    class BertForMaskedLM(torch.nn.Module):
        config = transformers.BertConfig()

    assert find_head(BertForMaskedLM()).is_assumed

    class Mine(transformers.BertForMaskedLM):
        pass

    assert find_head(Mine(transformers.BertConfig(**HEADS["BertForMaskedLM"]))).task == "tokens"


SETTINGS = ({}, {"num_labels": 1}, {"num_labels": 3, "problem_type": "multi_label_classification"})


@pytest.mark.parametrize("name", sorted({*HEADS, *FORECASTERS} - {"EncoderDecoderModel", "VisionEncoderDecoderModel"}))
def test_the_task_is_told_by_the_class_and_the_file_alone(name):
    """Of every class that is built in tests, as the model itself tells it."""
    settings = SETTINGS[:1] if name.endswith("SemanticSegmentation") else SETTINGS
    own = [partial(unbuilt, name, **HEADS.get(name, {}), **given) for given in settings]
    for make in [FORECASTERS[name]] if name in FORECASTERS else own:
        model = make()
        values = json.loads(model.config.to_json_string())
        assert task_of(name, values) == find_head(model).task


def test_the_hub_s_name_of_a_task_is_that_of_the_inputs():
    assert pipeline_tag("Wav2Vec2ForSequenceClassification") == "audio-classification"
    assert pipeline_tag("BertForSequenceClassification") == "text-classification"
    assert pipeline_tag("ASTForAudioClassification") == "audio-classification"
    assert pipeline_tag("Gemma3ForConditionalGeneration") == "image-text-to-text"
    assert pipeline_tag("KoopaForPrediction") == "time-series-forecasting"
    for name in ("BertForPreTraining", "DPTForSemanticSegmentation", "Mine"):
        assert pipeline_tag(name) is None and task_of(name, {}) is None
    assert {pipeline_tag(name) for name in supported_heads()} <= {None, *HUB_TASKS}


def test_a_configuration_of_any_type_has_a_task():
    for value in (None, True, -1, "x", [1], {"a": 1}):
        values = {"id2label": value, "problem_type": value}
        assert task_of("BertForSequenceClassification", values) in ("classes", "numbers")
        assert task_of("Wav2Vec2ForSequenceClassification", values) == "classes"
