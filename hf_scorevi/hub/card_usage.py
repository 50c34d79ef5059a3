"""How a model of each task is used: what the code on its card says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

__all__ = ["TERMS", "Terms", "Usage", "find_usage"]


class Terms(NamedTuple):
    """What figures are means over: one of them, several, and a sentence that says so."""

    one: str
    several: str
    sentence: str = ""


# By `Head.task`; of the others it is examples.
TERMS = {
    "labels": Terms("label", "labels", "Each label of each example counts as a prediction of two classes."),
    "tokens": Terms("token", "tokens", "Figures are means over all tokens that have a label, not over examples."),
    "pixels": Terms("pixel", "pixels", "Figures are means over all pixels that have a label, not over examples."),
    "spans": Terms("end", "ends of spans", "The start and the end of each span count as a prediction each."),
    "forecasts": Terms("number", "numbers"),
    "numbers": Terms("number", "numbers"),
}


@dataclass(frozen=True)
class Usage:
    """
    Attributes:
        predicted: what the probabilities are of.
        processor: the class that makes the model's inputs; `None` if they are left to the reader.
        file: that it is loaded from.
        inputs: the lines of code that make inputs with it, where it is called `processor`; without one, what to know
            of them.
        pipeline: that of transformers for the task, if there is one.
        example: what the pipeline with uncertainties is called with, if there is one for the task.
        measurable: the tasks of models that `hf-scorevi evaluate` measures.
        has_labels: whether the head is as wide as there are labels in the model's configuration.
    """

    predicted: str = "the classes"
    processor: str | None = None
    file: str = ""
    inputs: str = "a dictionary of tensors, as the model's forward takes them"
    pipeline: str | None = None
    example: str | None = None
    measurable: tuple[str, ...] = ()
    has_labels: bool = True


_IMAGES = Usage(
    processor="AutoImageProcessor",
    file="preprocessor_config.json",
    inputs='inputs = processor(Image.open("picture.jpg"), return_tensors="pt")',
)
_TEXTS = Usage(
    processor="AutoTokenizer",
    file="tokenizer_config.json",
    inputs='inputs = processor("A text.", return_tensors="pt")',
)
_RECORDINGS = Usage(
    processor="AutoFeatureExtractor",
    file="preprocessor_config.json",
    inputs="samples = ...  # of a recording, an array at processor.sampling_rate\n"
    'inputs = processor(samples, sampling_rate=processor.sampling_rate, return_tensors="pt")',
)
_GENERATED = Usage(
    "each token of the output, given those before it, (texts, tokens, vocabulary)",
    inputs="a dictionary of tensors, as the model's forward takes them, with decoder_input_ids if it has a decoder",
    has_labels=False,
)
_SPANS = replace(_TEXTS, predicted="", has_labels=False)
# By the Hub's name of the task.
_USAGES = {
    "audio-classification": replace(
        _RECORDINGS, pipeline="audio-classification", example="recording.wav", measurable=("classes",)
    ),
    "automatic-speech-recognition": _GENERATED,
    "document-question-answering": replace(_SPANS, processor=None, inputs=Usage.inputs),
    "fill-mask": replace(
        _TEXTS,
        predicted="the token in each place, (texts, tokens, vocabulary)",
        inputs='inputs = processor(f"A {processor.mask_token}.", return_tensors="pt")',
        pipeline="fill-mask",
        has_labels=False,
    ),
    "image-classification": replace(
        _IMAGES, pipeline="image-classification", example="picture.jpg", measurable=("classes",)
    ),
    "image-segmentation": replace(
        _IMAGES, predicted="the classes of each pixel, (images, classes, height, width)", pipeline="image-segmentation"
    ),
    "image-text-to-text": _GENERATED,
    "multiple-choice": replace(
        _TEXTS,
        predicted="the choices, (examples, choices)",
        inputs='pairs = ["A beginning,"] * 2, ["one end.", "another end."]\n'
        'inputs = processor(*pairs, padding=True, return_tensors="pt")\n'
        "inputs = {name: values.unsqueeze(0) for name, values in inputs.items()}  # (examples, choices, tokens)",
        has_labels=False,
    ),
    "question-answering": replace(
        _SPANS, inputs='inputs = processor("A question?", "A text with the answer.", return_tensors="pt")'
    ),
    "text-classification": replace(
        _TEXTS, pipeline="text-classification", example="A text.", measurable=("classes", "numbers")
    ),
    "text-generation": replace(
        _TEXTS,
        predicted="the token that follows each, (texts, tokens, vocabulary)",
        pipeline="text-generation",
        has_labels=False,
    ),
    "text2text-generation": _GENERATED,
    "time-series-forecasting": Usage(measurable=("forecasts",)),
    "token-classification": replace(
        _TEXTS,
        predicted="the classes of each token, (texts, tokens, classes)",
        pipeline="token-classification",
        example="A text.",
    ),
}


def find_usage(tag: str | None, task: str, folder: Path) -> Usage:
    """
    Return how the model in `folder` is used.

    Args:
        tag: what the Hub calls its task.
        task: what it predicts, as `Head.task`.
    """
    found = _USAGES.get(tag or "", Usage())
    if task == "labels":
        found = replace(found, predicted="the labels", example=None)
    elif task == "numbers":
        found = replace(found, pipeline=None, example=None)
    if found.processor is not None and not (folder / found.file).is_file():
        return replace(found, processor=None, inputs=Usage.inputs, pipeline=None, example=None)
    return found
