"""What `cost.py` measures: models with random weights, and the ways to train them."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    PatchTSTConfig,
    PatchTSTForPrediction,
    PrinterCallback,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from hf_scorevi import PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments

NUM_DATA = 50_000
INTERVAL = 2  # while measuring every second step is a curvature step, so that few steps hold enough of both kinds
LORA_RANK = 8


class Unavailable(Exception):
    """A method cannot run on a model, or here; the message is a sentence that says why."""


@dataclass(frozen=True)
class Settings:
    """What all runs share."""

    device: str
    batch_size: int
    image_size: int
    bf16: bool
    quick: bool


_VIT_L = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_QUICK_VIT = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
_QUICK_RESNET = {"embedding_size": 16, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 2, 1]}
_QUICK_PATCHTST = {"d_model": 32, "num_hidden_layers": 1, "ffn_dim": 64}

SUBJECTS: dict[str, tuple[type[nn.Module], type, dict[str, Any], dict[str, Any]]] = {
    # model, configuration, its values at full size, and what of them is smaller with --quick
    "vit_b16": (ViTForImageClassification, ViTConfig, {"patch_size": 16}, _QUICK_VIT),
    "vit_l32": (ViTForImageClassification, ViTConfig, {"patch_size": 32, **_VIT_L}, _QUICK_VIT),
    "resnet_101": (ResNetForImageClassification, ResNetConfig, {"depths": [3, 4, 23, 3]}, _QUICK_RESNET),
    "patchtst": (PatchTSTForPrediction, PatchTSTConfig, {"loss": "nll"}, _QUICK_PATCHTST),
}


def build(subject: str, settings: Settings, lora: bool) -> nn.Module:
    """The model on the device; with `lora`, an adapter on queries and values and the head are what is trained."""
    model_class, config_class, full, quick = SUBJECTS[subject]
    if lora and config_class is not ViTConfig:
        raise Unavailable("LoRA is measured on the query and value layers of ViTs alone.")
    torch.manual_seed(0)
    config = config_class(**full | (quick if settings.quick else {}))
    if config_class is ViTConfig:
        config.image_size = settings.image_size
    model = model_class(config)
    if lora:
        adapter = LoraConfig(r=LORA_RANK, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
        model = get_peft_model(model, adapter)
    return model.to(settings.device)


def make_batch(config: Any, settings: Settings, size: int) -> dict[str, Tensor]:
    """One batch on the device, of series where the model forecasts, otherwise of images."""
    generator = torch.Generator().manual_seed(1)
    if hasattr(config, "prediction_length"):
        lengths = {"past_values": config.context_length, "future_values": config.prediction_length}
        shapes = {name: (size, length, config.num_input_channels) for name, length in lengths.items()}
        batch = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    else:
        shape = (size, config.num_channels, settings.image_size, settings.image_size)
        labels = torch.randint(config.num_labels, (size,), generator=generator)
        batch = {"pixel_values": torch.randn(shape, generator=generator), "labels": labels}
    return {name: value.to(settings.device) for name, value in batch.items()}


@dataclass(frozen=True)
class Method:
    """A way to train, the `baseline` that it is compared with, and the family of its posterior if it has one."""

    baseline: str | None = None
    family: str | None = None
    objective: str = "score"
    lora: bool = False


METHODS = {
    "adamw": Method(),
    "score_vi_isotropic": Method("adamw", "isotropic"),
    "score_vi_diagonal": Method("adamw", "diagonal"),
    "advi": Method("adamw", "diagonal", objective="elbo"),
    "ivon": Method("adamw"),
    "adamw_lora": Method(lora=True),
    "score_vi_lora": Method("adamw_lora", "isotropic", lora=True),
}


class Hooks(TrainerCallback):
    """The moments of a training run at which something may be measured; here nothing is."""

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None: ...
    def on_forward(self) -> None: ...
    def on_backward_end(self) -> None: ...
    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None: ...
    def on_step_end(self, *args: Any, **kwargs: Any) -> None: ...


def train(name: str, model: nn.Module, batch: dict[str, Tensor], settings: Settings, steps: int, hooks: Hooks) -> None:
    """
    `steps` optimizer steps of the method `name`, by the real `Trainer.train()`, all on the same batch.

    Raises:
        Unavailable: the method needs a package that is not installed.
    """
    if name == "ivon":
        return _train_ivon(model, batch, settings, steps, hooks)
    method = METHODS[name]
    arguments: dict[str, Any] = {
        "max_steps": steps,
        "per_device_train_batch_size": len(next(iter(batch.values()))),
        "optim": "adamw_torch",
        "learning_rate": 1e-5,
        "bf16": settings.bf16,
        "use_cpu": settings.device == "cpu",
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    parts: dict[str, Any] = {
        "model": model,
        "train_dataset": range(NUM_DATA),
        "data_collator": lambda rows: dict(batch),
        "callbacks": [hooks],
    }
    with tempfile.TemporaryDirectory() as folder:
        if method.family is None:
            trainer = Trainer(args=TrainingArguments(folder, **arguments), **parts)
        else:
            arguments |= {"objective": method.objective, "curvature_interval": INTERVAL}
            config = PosteriorConfig(family=method.family)
            trainer = ScoreVITrainer(
                args=ScoreVITrainingArguments(folder, **arguments), posterior_config=config, **parts
            )
        trainer.remove_callback(PrinterCallback)  # standard output is the report's
        forward, backward = trainer.compute_loss, trainer.accelerator.backward

        @functools.wraps(forward)
        def announced_forward(*args: Any, **kwargs: Any) -> Any:
            hooks.on_forward()
            return forward(*args, **kwargs)

        def announced_backward(*args: Any, **kwargs: Any) -> None:
            backward(*args, **kwargs)
            hooks.on_backward_end()

        trainer.compute_loss, trainer.accelerator.backward = announced_forward, announced_backward
        trainer.train()


def _train_ivon(model: nn.Module, batch: dict[str, Tensor], settings: Settings, steps: int, hooks: Hooks) -> None:
    """A plain loop, as IVON's authors write it: without the Trainer's clipping, schedule and checks."""
    try:
        from ivon import IVON
    except ImportError as error:
        raise Unavailable("The package ivon-opt is not installed (pip install ivon-opt).") from error
    optimizer = IVON([p for p in model.parameters() if p.requires_grad], lr=1e-3, ess=NUM_DATA)
    model.train()
    for _ in range(steps):
        hooks.on_step_begin()
        with optimizer.sampled_params(train=True):
            hooks.on_forward()
            with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bf16):
                loss = model(**batch).loss
            loss.backward()
            hooks.on_backward_end()
        optimizer.step()
        hooks.on_optimizer_step()
        optimizer.zero_grad()
        hooks.on_step_end()
