"""
The heads of models: what a model predicts, and the likelihood whose mean its loss is.

A wrong scale of the likelihood shows no error but makes every variance wrong. So only listed heads are supported:
those whose loss is known to be a mean of negative log-likelihoods. `docs/heads.md` has the list.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

from .errors import InputError

__all__ = ["IGNORED", "Head", "base_of", "find_head", "pipeline_tag", "supported_heads", "task_of"]

IGNORED = -100  # the label of a position that is no term of the likelihood, once labels are aligned with logits

# transformers' tables of classes, grouped by the kind of head, with the Hub's name of each table's task. A class in
# several tables belongs to the first.
_TABLES: dict[str, dict[str, str | None]] = {
    "sequence": {
        "SEQUENCE_CLASSIFICATION": "text-classification",
        "IMAGE_CLASSIFICATION": "image-classification",
        "VIDEO_CLASSIFICATION": "video-classification",
    },
    "audio": {"AUDIO_CLASSIFICATION": "audio-classification"},
    "choice": {"MULTIPLE_CHOICE": "multiple-choice", "NEXT_SENTENCE_PREDICTION": None},
    "generation": {
        "SPEECH_SEQ_2_SEQ": "automatic-speech-recognition",
        "IMAGE_TEXT_TO_TEXT": "image-text-to-text",
        "SEQ_TO_SEQ_CAUSAL_LM": "text2text-generation",
        "CAUSAL_LM": "text-generation",
    },
    "token": {"TOKEN_CLASSIFICATION": "token-classification", "MASKED_LM": "fill-mask"},
    "span": {
        "DOCUMENT_QUESTION_ANSWERING": "document-question-answering",
        "QUESTION_ANSWERING": "question-answering",
    },
    "pixel": {"SEMANTIC_SEGMENTATION": "image-segmentation"},
}
_SERIES = (
    "AutoformerForPrediction",
    "InformerForPrediction",
    "KoopaForPrediction",
    "PatchTSMixerForPrediction",
    "PatchTSMixerForRegression",
    "PatchTSMixerForTimeSeriesClassification",
    "PatchTSTForClassification",
    "PatchTSTForPrediction",
    "PatchTSTForRegression",
    "TimeSeriesTransformerForPrediction",
)
_AUDIO_WITH_PROBLEM_TYPE = ("ASTForAudioClassification",)  # the loss of the others is always a cross-entropy
# Classes in those tables that are not supported: their loss has other terms (penalties, several heads), they compute
# none from labels, or their logits are at other positions than the labels.
_OTHER_LOSSES = frozenset(
    {
        "BlipForConditionalGeneration",
        "DPTForSemanticSegmentation",
        "DeiTForImageClassificationWithTeacher",
        "DiaForConditionalGeneration",
        "DiffusionGemmaForBlockDiffusion",
        "Gemma4AssistantForCausalLM",
        "Gemma4UnifiedAssistantForCausalLM",
        "GitForCausalLM",
        "GraniteDoclingForConditionalGeneration",
        "LevitForImageClassificationWithTeacher",
        "LukeForMaskedLM",
        "LxmertForQuestionAnswering",
        "MoshiForCausalLM",
        "MusicgenForCausalLM",
        "MusicgenMelodyForCausalLM",
        "PI0ForConditionalGeneration",
        "PPLCNetForImageClassification",
        "ProphetNetForCausalLM",
        "ProphetNetForConditionalGeneration",
        "ShieldGemma2ForImageClassification",
        "VibeVoiceForConditionalGeneration",
        "VideoPrismForVideoClassification",
    }
)
# Language models without an encoder whose logits are compared with the labels of the same position, not the next.
_UNSHIFTED = frozenset(
    {
        "BartForCausalLM",
        "BigBirdPegasusForCausalLM",
        "BlenderbotForCausalLM",
        "BlenderbotSmallForCausalLM",
        "CpmAntForCausalLM",
        "MBartForCausalLM",
        "MarianForCausalLM",
        "MvpForCausalLM",
        "PLBartForCausalLM",
        "PegasusForCausalLM",
        "TrOCRForCausalLM",
        "WhisperForCausalLM",
        "XLMWithLMHeadModel",
        "XLNetLMHeadModel",
    }
)
# Language models and heads of tokens whose loss leaves out the tokens where this argument is zero.
_MASKED = {
    "BioGptForTokenClassification": "attention_mask",
    "BrosForTokenClassification": "bbox_first_token_mask",
    "GraniteSpeechForConditionalGeneration": "attention_mask",
    "GraniteSpeechPlusForConditionalGeneration": "attention_mask",
    "MraForTokenClassification": "attention_mask",
    "Qwen2AudioForConditionalGeneration": "attention_mask",
    "XLMRobertaXLForTokenClassification": "attention_mask",
    "YosoForTokenClassification": "attention_mask",
}
# What a configuration can add to the loss, and its setting.
_PENALTIES = {
    "generation": {
        "output_router_logits": "a penalty on the router of the experts",
        "z_loss_coefficient": "a penalty on the logits",
    },
    "pixel": {"use_auxiliary_head": "the loss of an auxiliary head"},
}
_TASKS = "classification of sequences, images, audio, tokens or pixels, a language model, question answering, "
_TASKS += "multiple choice, regression or forecasting (docs/heads.md)"


@dataclass(frozen=True)
class Head:
    """
    Attributes:
        task: what is predicted: one of several `"classes"`, independent yes-or-no `"labels"`, `"numbers"`, the class
            of each of many `"tokens"` or `"pixels"`, `"spans"` (a start and an end in a text), or `"forecasts"`.
        likelihood: `"categorical"`, `"bernoulli"`, `"gaussian"` (the loss is a mean squared error), or
            `"distribution"` (a density in closed form, whose parameters the model predicts).
        terms: of the likelihood in each row, of which the loss is the mean; `None` where rows differ and labels are
            counted.
        targets: arguments of the model's forward that the loss compares with.
        predictions: fields of the outputs that are compared, or are the logits.
        class_axis: of the logits.
        ignore_index: the label of positions that are no term of the likelihood.
        mask: the argument of the forward whose zeros also mark tokens that are no term of the likelihood.
        shifted: whether the logits of a position are those of the next one's label.
        channels: those of the target that are predicted; `None` for all.
        normalises: whether the outputs have the `scale` of each window, (B, 1, C), that a squared error's forecast was
            normalised by.
        is_assumed: whether the head is assumed rather than known, because the loss is the user's own.
    """

    task: str = "classes"
    likelihood: str = "categorical"
    terms: int | None = 1
    targets: tuple[str, ...] = ("labels",)
    predictions: tuple[str, ...] = ("logits",)
    class_axis: int = -1
    ignore_index: int = IGNORED
    mask: str | None = None
    shifted: bool = False
    channels: tuple[int, ...] | None = None
    normalises: bool = False
    is_assumed: bool = False

    @property
    def target(self) -> str:
        """The argument of the forward that the loss compares with, the first if there are several."""
        return self.targets[0]

    @property
    def forecasts(self) -> bool:
        """Whether the model forecasts a series."""
        return self.task == "forecasts"

    @property
    def has_classes(self) -> bool:
        """Whether each term of the likelihood is one of several classes."""
        return self.likelihood == "categorical"

    @property
    def counts_labels(self) -> bool:
        """Whether the terms of the likelihood are those labels that are not ignored."""
        return self.task in ("tokens", "pixels")

    def predicted(self, outputs: Any) -> Tensor:
        """
        Return the first of `predictions` among a model's outputs, (B, ...).

        Raises:
            TypeError: it is not there, or no tensor.
        """
        return self.all_predicted(outputs)[0]

    def all_predicted(self, outputs: Any) -> tuple[Tensor, ...]:
        """
        Return the `predictions` among a model's outputs.

        Raises:
            TypeError: one is not there, or no tensor.
        """
        found = tuple(_field(outputs, name) for name in self.predictions)
        for name, value in zip(self.predictions, found, strict=True):
            if not isinstance(value, Tensor):
                raise TypeError(f"The model's outputs have no tensor {name!r}.")
        return found

    def predicts(self, outputs: Any) -> bool:
        """Return whether all `predictions` are among a model's outputs."""
        return all(isinstance(_field(outputs, name), Tensor) for name in self.predictions)

    def observed(self, target: Tensor) -> Tensor:
        """Return the part of a forecaster's target that is predicted."""
        return target if self.channels is None else target[..., list(self.channels)]

    def labels(self, inputs: Mapping[str, Any]) -> tuple[Tensor, ...] | None:
        """
        Return the class of each term of a batch's likelihood, at the position of its logits, `IGNORED` where there is
        none. The shape is (B,) for classes and for each end of a span, (B, T) for tokens, (B, H, W) for pixels; `None`
        without labels.

        The end of a span that lies beyond the text is ignored, and one before it is the first token, as in the losses
        of transformers.
        """
        if self.shifted and isinstance(aligned := inputs.get("shift_labels"), Tensor):
            return (aligned,)
        labels = [label for name in self.targets if isinstance(label := inputs.get(name), Tensor)]
        if len(labels) < len(self.targets):
            return None
        if self.task == "spans":
            labels = [(label.squeeze(-1) if label.dim() > 1 else label).clamp(min=0) for label in labels]
            if isinstance(text := inputs.get("input_ids"), Tensor):
                labels = [label.masked_fill(label >= text.shape[1], IGNORED) for label in labels]
        if self.mask is not None and isinstance(mask := inputs.get(self.mask), Tensor):
            labels = [label.masked_fill(mask == 0, IGNORED) for label in labels]
        if self.shifted:
            labels = [F.pad(label[..., 1:], (0, 1), value=IGNORED) for label in labels]
        if self.ignore_index != IGNORED:
            labels = [label.long().masked_fill(label == self.ignore_index, IGNORED) for label in labels]
        return tuple(labels)

    def count(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """
        Return the number of terms in a batch that have a label, (), if the head predicts classes; otherwise the number
        of rows. Return `None` without labels.
        """
        labels = self.labels(inputs)
        if labels is None:
            return None
        if self.has_classes and not self.is_assumed:
            return (labels[0] != IGNORED).sum()
        return torch.tensor(len(labels[0]), device=labels[0].device)

    def term_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """
        Return the logits of each term, its classes last: (*labels.shape, K).

        Args:
            logits: of the model; those of pixels are interpolated to the labels' size, as its loss does.
            labels: the result of `labels`.
        """
        if self.task == "pixels":
            if logits.shape[-2:] != labels.shape[-2:]:
                logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
            return logits.movedim(1, -1)
        return logits

    def seen(self, outputs: Any, labels: Any) -> Head:
        """
        Return the head of a user's own model, completed by the shapes of its first batch; return other heads
        unchanged.

        Args:
            outputs: the predicted tensor, (B, ...).
            labels: of the batch; `None` without.
        """
        if not self.is_assumed or self.likelihood != "categorical" or not isinstance(outputs, Tensor):
            return self
        if outputs.dim() == 2 and outputs.shape[1] > 1 and (labels is None or _are_classes(labels)):
            return self
        return replace(self, task="numbers", likelihood="gaussian")


def _are_classes(labels: Any) -> bool:
    return isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point()


def _field(outputs: Any, name: str) -> Any:
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def base_of(model: nn.Module) -> Any:
    """Return the model without its adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


@cache
def supported_heads() -> dict[str, str]:
    """Return the classes whose loss is known, each with its group: a key of transformers' tables, or `"series"`."""
    return {name: group for name, (group, _) in sorted(_found_tables().items()) if name not in _OTHER_LOSSES}


@cache
def _found_tables() -> dict[str, tuple[str, str | None]]:
    """Return the group of each class, and the Hub's name of its task."""
    found: dict[str, tuple[str, str | None]] = {
        name: ("series", "time-series-forecasting" if name.endswith("ForPrediction") else None) for name in _SERIES
    }
    found |= dict.fromkeys(_AUDIO_WITH_PROBLEM_TYPE, ("sequence", "audio-classification"))
    for group, tables in _TABLES.items():
        for table, tag in tables.items():
            for names in getattr(modeling_auto, f"MODEL_FOR_{table}_MAPPING_NAMES").values():
                for name in [names] if isinstance(names, str) else names:
                    found.setdefault(name, (group, tag))
    return found


def pipeline_tag(name: str) -> str | None:
    """
    Return the Hub's name for the task of a transformers class, e.g. `"text-classification"`; `None` if it has no name,
    or the class is not known.
    """
    return _found_tables()[name][1] if name in supported_heads() else None


def task_of(name: str, values: Mapping[str, Any]) -> str | None:
    """
    Return the `Head.task` of a model that is not loaded; `None` if its class is not one of transformers'.

    Args:
        name: of its class.
        values: of its `config.json`, which is not trusted and may hold any type.
    """
    group = supported_heads().get(name)
    if group == "series":
        return "classes" if "Classification" in name else "numbers" if "Regression" in name else "forecasts"
    if group == "sequence":
        labels = values.get("id2label")  # which is left out of the file where it is the default, of two
        return _sequence_task(len(labels) if isinstance(labels, dict) else 2, values.get("problem_type"))
    tasks = {"token": "tokens", "generation": "tokens", "span": "spans", "pixel": "pixels"}
    return None if group is None else tasks.get(group, "classes")


def find_head(model: nn.Module, squared_error: bool = False) -> Head:
    """
    Return the head of `model`, which may have an adapter.

    Args:
        squared_error: whether the loss of a model from outside transformers is a mean squared error. It is then
            between `prediction_outputs` and `future_values`, if its forward takes these, or `logits` and `labels`.

    Raises:
        InputError: the loss is not known to be a likelihood's.
    """
    base = base_of(model)
    config = getattr(base, "config", None)
    known = supported_heads()
    kinds = (kind.__name__ for kind in type(base).__mro__ if _is_packaged(kind))
    name = next((kind for kind in kinds if kind in known), None)
    if name is None:
        if _is_packaged(type(base)):
            raise InputError(_refusal(type(base).__name__))
        return _own_head(base) if squared_error else Head(is_assumed=True)  # only its author knows its loss
    group = known[name]
    if not isinstance(config, PreTrainedConfig):
        return Head(is_assumed=True)
    _refuse_penalties(name, group, config)
    if group == "series":
        return _series_head(name, config)
    if group == "sequence":
        return _sequence_head(config)
    if group in ("token", "generation"):
        has_encoder = config.is_encoder_decoder or config.get_text_config().is_encoder_decoder
        shifted = group == "generation" and not has_encoder and name not in _UNSHIFTED
        return Head("tokens", terms=None, mask=_MASKED.get(name), shifted=shifted)
    if group == "span":
        return Head(
            "spans",
            terms=2,
            targets=("start_positions", "end_positions"),
            predictions=("start_logits", "end_logits"),
        )
    if group == "pixel":
        return _pixel_head(name, config)
    return Head()


def _is_packaged(kind: type) -> bool:
    return kind.__module__.split(".")[0] in ("transformers", "hf_scorevi", "peft")


def _refusal(name: str) -> str:
    if "TimesFm" in name:
        return (
            f"The loss of {name} is a squared error plus quantile losses, which is not the negative log-likelihood of "
            "any data, so it has no posterior. Train a forecaster that has a likelihood: Koopa, PatchTST or "
            "PatchTSMixer (a Gaussian with learned noise), TimeSeriesTransformer, Informer or Autoformer."
        )
    if "ForCTC" in name:
        return (
            f"The loss of {name} sums or averages sequences of unlike length (ctc_loss_reduction), so it is not the "
            "mean of a negative log-likelihood over known terms, and has no posterior. Train a sequence-to-sequence "
            "model (Whisper, Speech2Text) or a classifier."
        )
    return (
        f"The loss of {name} is not known to be the mean of negative log-likelihoods, so it has no posterior. Train a "
        f"head with a likelihood: {_TASKS}."
    )


def _refuse_penalties(name: str, group: str, config: PreTrainedConfig) -> None:
    """Refuse terms that a configuration adds to the loss and that belong to no likelihood."""
    for setting, penalty in _PENALTIES.get(group, {}).items():
        value = getattr(config.get_text_config(), setting, None) or getattr(config, setting, None)
        if value:
            off = "False" if isinstance(value, bool) else "0.0"
            raise InputError(
                f"The loss of {name} has {penalty} added, which is the likelihood of no data, so it has no posterior. "
                f"Set {setting}={off} in the model's config; the prior takes its place."
            )
    if group == "token" and getattr(config, "sparse_prediction", False):
        raise InputError(
            f"With sparse_prediction=True {name} gives the logits of the masked tokens alone, in one row. Set "
            "sparse_prediction=False in the model's config; the loss stays the same."
        )


def _sequence_task(number: int, problem: Any) -> str:
    if problem == "regression" or (problem is None and number == 1):
        return "numbers"
    return "labels" if problem == "multi_label_classification" else "classes"


def _sequence_head(config: PreTrainedConfig) -> Head:
    number = getattr(config, "num_labels", 0)
    task = _sequence_task(number, getattr(config, "problem_type", None))
    if task == "numbers":
        return Head("numbers", "gaussian", max(number, 1))
    if task == "labels":  # the loss is a mean over examples and labels
        return Head("labels", "bernoulli", number)
    return Head()


def _pixel_head(name: str, config: PreTrainedConfig) -> Head:
    if config.num_labels == 1:
        raise InputError(
            f"With num_labels=1 the loss of {name} divides by pixels that are left out, too, so it is not the mean of "
            "a negative log-likelihood. Give it two classes: background and object."
        )
    ignored = next((i for n in ("semantic_loss_ignore_index", "loss_ignore_index")
                    if (i := getattr(config, n, None)) is not None), IGNORED)  # fmt: skip
    return Head("pixels", terms=None, class_axis=1, ignore_index=ignored)


def _own_head(model: nn.Module) -> Head:
    if "future_values" in inspect.signature(model.forward).parameters:
        return Head("forecasts", "gaussian", None, ("future_values",), ("prediction_outputs",), is_assumed=True)
    return Head("numbers", "gaussian", None, is_assumed=True)


def _series_head(name: str, config: Any) -> Head:
    """Return the head of a time-series model of transformers, or of Koopa: their losses are means over everything."""
    if "Classification" in name:
        field = "prediction_logits" if "PatchTSTFor" in name else "prediction_outputs"
        return Head(targets=("target_values",), predictions=(field,))
    likelihood = "gaussian" if config.loss == "mse" else "distribution"
    if "ForRegression" in name:
        if likelihood == "distribution":
            raise InputError(
                f"With loss='nll' {name} gives the parameters of a distribution, of which no predictive is made here. "
                "Choose loss='mse': a Gaussian, whose noise variance is learned."
            )
        return Head("numbers", likelihood, config.num_targets, ("target_values",), ("regression_outputs",))
    horizon = config.prediction_length
    chosen = getattr(config, "prediction_channel_indices", None)
    channels = len(chosen) if chosen else getattr(config, "num_input_channels", None) or config.input_size
    if likelihood == "distribution" and horizon == 1 and hasattr(config, "num_input_channels"):
        raise InputError(
            f"With loss='nll' and prediction_length=1 {name} loses the dimension of the horizon, and compares each "
            "window with the others. Choose loss='mse', or forecast two steps or more."
        )
    if likelihood == "distribution" and "TSMixer" in name and config.distribution_output == "negative_binomial":
        raise InputError(
            f"{name}.generate multiplies counts by the scale of the window twice, so that its forecasts are far too "
            "large. Choose another distribution_output, or PatchTST."
        )
    return Head(
        "forecasts",
        likelihood,
        # The density is that of all channels of a step together.
        horizon if likelihood == "distribution" else horizon * channels,
        ("future_values",),
        ("prediction_outputs",),
        channels=tuple(chosen) if chosen else None,
        normalises=likelihood == "gaussian",
    )
