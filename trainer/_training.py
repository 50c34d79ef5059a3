"""What the training programs share: arguments of posterior and run, the baseline's trainer, resuming and finishing."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn
from transformers import PreTrainedConfig, Trainer
from transformers.utils import logging

from hf_scorevi import PosteriorConfig, PushError, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.errors import InputError
from hf_scorevi.hub import load_weights
from hf_scorevi.training.checkpoint_folders import last_checkpoint, recover

__all__ = ["PointTrainer", "PosteriorArguments", "RunArguments", "check_saved", "finish", "origin", "train"]

logger = logging.get_logger("transformers.trainer_program")  # below transformers' own, for its handler


@dataclass
class PosteriorArguments(PosteriorConfig):
    """`PosteriorConfig`, its fields of several types as the command line has them, and what to learn instead."""

    _argument_group_name: ClassVar[str] = "posterior"

    target: list[str] = field(
        default_factory=lambda: ["trainable"],
        metadata={"help": "Bayesian weights: trainable (all), or names and globs of modules and parameters."},
    )
    exclude: list[str] | None = field(default=None, metadata={"help": "Names and globs that stay deterministic."})
    prior_std: str = field(default="auto", metadata={"help": "Standard deviation of the prior: a number, or auto."})
    temperature: str = field(default="auto", metadata={"help": "Temperature of the likelihood: a number, or auto."})
    noise_variance: str = field(
        default="auto",
        metadata={"help": "Noise variance behind a squared error: a number; or learned: one (model), one a channel, "
                          "step (horizon) or element; or in proportion to the window's (window; auto: forecasters)."},
    )  # fmt: skip
    baseline: Literal["adamw"] | None = field(
        default=None, metadata={"help": "Learn no posterior: train with the stock Trainer on the same arguments."}
    )

    def config(self) -> PosteriorConfig:
        """The `PosteriorConfig` that these describe."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(PosteriorConfig)}
        if self.target == ["trainable"]:
            values["target"] = "trainable"
        return PosteriorConfig(**values)


@dataclass
class RunArguments(ScoreVITrainingArguments):
    """`ScoreVITrainingArguments`, and what a run does."""

    do_train: bool = field(default=False, metadata={"help": "Train. Without this and do_eval, both are done."})
    do_eval: bool = field(default=False, metadata={"help": "Evaluate; alone, a model that a run has saved."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "True: continue from the last checkpoint in output_dir; or a checkpoint."}
    )

    def __post_init__(self) -> None:
        if not (self.do_train or self.do_eval):  # before an eval_strategy, which the base class reads as do_eval
            self.do_train = self.do_eval = True
        super().__post_init__()


class PointTrainer(Trainer):
    """The stock Trainer, reading checkpoints as `ScoreVITrainer` does, and scaling the loss alike."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Else heads that ignore num_items_in_batch get gradient_accumulation_steps times the gradient.
        self.model_accepts_loss_kwargs = False

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # The stock method matches none of a ViT's weights, which transformers renames on saving, and only warns.
        target: Any = self.model if model is None else model
        if hasattr(target, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(target, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        model: Any = self.model
        if hasattr(model, "peft_config"):
            super()._load_best_model()
        else:
            load_weights(model, str(self.state.best_model_checkpoint))


def train(trainer: Trainer, args: RunArguments, config: PreTrainedConfig) -> None:
    """Train, and save the model with the run's figures."""
    folder = str(args.output_dir)
    result = trainer.train(resume_from_checkpoint=_checkpoint_to_resume(args))
    trainer.save_model()
    unknown = not (isinstance(trainer, ScoreVITrainer) or Path(folder, "config.json").is_file())
    if unknown and trainer.is_world_process_zero():
        config.save_pretrained(folder)  # the baseline's adapter alone does not know its classes
    metrics = {**result.metrics, "train_samples": len(trainer.train_dataset)}  # type: ignore[arg-type]
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()


def _checkpoint_to_resume(args: RunArguments) -> str | bool | None:
    value = args.resume_from_checkpoint
    if value is None or value.lower() == "false":
        return None
    if value.lower() != "true":
        if not Path(value).is_dir():
            raise InputError(f"There is no checkpoint {value!r} to resume from.")
        return value
    folder = str(args.output_dir)
    recover(Path(folder))
    if last_checkpoint(folder) is None:
        raise InputError(
            f"{folder!r} holds no checkpoint to resume from. Give the --output_dir of the interrupted run, "
            "or leave --resume_from_checkpoint out."
        )
    return True


def check_saved(folder: str) -> None:
    """There must be a posterior to evaluate."""
    if not Path(folder, "posterior_config.json").is_file():
        raise InputError(
            f"{folder} is no folder with a posterior, so there is nothing to evaluate without training: give "
            "--model_name_or_path the output folder of a run, or --do_train, or --baseline adamw."
        )


def finish(trainer: Trainer, args: RunArguments, card: dict[str, Any]) -> None:
    """Save what was measured with the model, write its card, and push it if that was asked for."""
    if args.do_train and isinstance(trainer, ScoreVITrainer):
        trainer.save_model(_internal_call=True)  # with what was measured; pushed below
        trainer.create_model_card(**card)
    if args.push_to_hub:
        try:
            trainer.push_to_hub(**card)
        except PushError as error:  # the model is on disk, and the message says how to push it
            logger.warning(str(error))
    trainer.accelerator.end_training()


def origin(model: str | None, dataset: str | None, source: str | None) -> dict[str, Any]:
    """
    What a model card says about a run's origin, which is not where files lie on this machine.

    Args:
        model: that was trained on, on the Hub or a folder.
        dataset: on the Hub, or its local copy.
        source: file or folder of data.
    """
    values: dict[str, Any] = {}
    if model is not None and not Path(model).is_dir():
        values["finetuned_from"] = model
    if dataset and not Path(dataset).exists():
        values |= {"dataset": dataset, "dataset_tags": dataset}
    elif dataset or source:
        values["dataset"] = Path((dataset or source or "").removesuffix(".gz")).stem
    return values
