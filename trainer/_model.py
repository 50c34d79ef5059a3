"""The classifier to train or to evaluate, and its image processor or tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ViTImageProcessorPil,
)
from transformers.utils import logging
from transformers.utils.hub import has_file

from hf_scorevi.hub import read_base_config

__all__ = [
    "ImageModelArguments",
    "ModelArguments",
    "TextModelArguments",
    "add_lora",
    "class_names",
    "load_config",
    "load_model",
    "load_processor",
    "load_tokenizer",
]

logger = logging.get_logger("transformers.classification")  # below transformers' own, for its handler


@dataclass
class ModelArguments:
    """The model to start from."""

    _argument_group_name: ClassVar[str] = "model"

    model_name_or_path: str = field(default="", metadata={"help": "Model on the Hub, or a folder."})
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Token for private repositories; if not given, that of `hf auth login`."}
    )
    ignore_mismatched_sizes: bool = field(
        default=True, metadata={"help": "Replace a head that has another number of classes by a new one."}
    )
    lora_r: int | None = field(
        default=None, metadata={"help": "Rank of a LoRA adapter; the model's own weights are then frozen."}
    )
    lora_alpha: int = field(default=16, metadata={"help": "Scale of the adapter, divided by its rank."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Modules that get an adapter; if not given, all linear layers."}
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules to train whole beside the adapter; if not given, the head."}
    )

    def __post_init__(self) -> None:
        if self.lora_r is None and (self.lora_target_modules or self.modules_to_save):
            raise ValueError("lora_target_modules and modules_to_save belong to a LoRA adapter: give lora_r too")


@dataclass
class ImageModelArguments(ModelArguments):
    """The same, of an image classifier."""

    model_name_or_path: str = field(
        default="google/vit-base-patch16-224-in21k", metadata={"help": "Model on the Hub, or a folder."}
    )
    image_processor: str | None = field(
        default=None, metadata={"help": "Image processor on the Hub, or its folder; if not given, the model's."}
    )


@dataclass
class TextModelArguments(ModelArguments):
    """The same, of a classifier of texts."""

    model_name_or_path: str = field(
        default="google-bert/bert-base-uncased", metadata={"help": "Model on the Hub, or a folder."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer on the Hub, or its folder; if not given, the model's."}
    )


def load_config(args: ModelArguments, names: list[str] | None) -> PreTrainedConfig:
    """The model's configuration, with `names` as its classes if given; a single one is that of a number."""
    name = args.model_name_or_path
    saved = all(Path(name, file).is_file() for file in ("adapter_config.json", "posterior_config.json"))
    config = read_base_config(name) if saved else None
    if config is None:
        config = AutoConfig.from_pretrained(name, revision=args.revision, token=args.token, trust_remote_code=False)
    if names is not None:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
    # Not to be guessed from the labels: it decides the likelihood.
    config.problem_type = "regression" if config.num_labels == 1 else "single_label_classification"
    return config


def class_names(config: PreTrainedConfig) -> list[str]:
    """The names of a classifier's classes, in the order of their numbers."""
    id2label: dict[Any, str] = config.id2label or {}
    return [id2label[i] for i in sorted(id2label)]


def load_processor(args: ImageModelArguments, config: PreTrainedConfig) -> BaseImageProcessor:
    """The model's image processor; a plain one of its image size if it has none."""
    source = args.image_processor or args.model_name_or_path
    try:
        return AutoImageProcessor.from_pretrained(
            source, revision=args.revision, token=args.token, trust_remote_code=False
        )
    except OSError:
        files = ("preprocessor_config.json", "processor_config.json")
        if args.image_processor or any(has_file(source, f, revision=args.revision, token=args.token) for f in files):
            raise
    size = getattr(config, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    channels = getattr(config, "num_channels", 3)
    logger.warning(
        f"{source} has no preprocessor_config.json: images are resized to {height}x{width} and scaled to [-1, 1]. "
        "Name another processor with --image_processor."
    )
    half = [0.5] * channels
    return ViTImageProcessorPil(size={"height": height, "width": width}, image_mean=half, image_std=half)


def load_tokenizer(args: TextModelArguments, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The model's tokenizer. One that has nothing to pad with takes its end of text, and so does the model."""
    source = args.tokenizer or args.model_name_or_path
    tokenizer = AutoTokenizer.from_pretrained(
        source, revision=args.revision, token=args.token, trust_remote_code=False
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def load_model(args: ModelArguments, config: PreTrainedConfig, auto: Any) -> nn.Module:
    """
    The model that `auto` loads, with a head for the classes in `config`, in float32; in the folder of a LoRA run, with
    its adapter.
    """
    name, revision = args.model_name_or_path, args.revision
    adapter = PeftConfig.from_pretrained(name) if Path(name, "adapter_config.json").is_file() else None
    if adapter is not None:
        name, revision = str(adapter.base_model_name_or_path), adapter.revision or "main"
    model = auto.from_pretrained(
        name,
        config=config,
        revision=revision,
        token=args.token,
        ignore_mismatched_sizes=args.ignore_mismatched_sizes,
        dtype=torch.float32,
        trust_remote_code=False,  # there is not even a question
    )
    return model if adapter is None else PeftModel.from_pretrained(model, args.model_name_or_path, is_trainable=True)


def add_lora(model: PreTrainedModel, args: ModelArguments) -> nn.Module:
    """`model` frozen, with a trainable adapter, and its head to be trained whole."""
    parts = {name: part for name, part in model.named_children() if any(True for _ in part.parameters())}
    assert args.lora_r is not None
    config = LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        target_modules=args.lora_target_modules or "all-linear",
        modules_to_save=args.modules_to_save or [name for name in parts if name != model.base_model_prefix],
    )
    return get_peft_model(model, config, revision=args.revision)
