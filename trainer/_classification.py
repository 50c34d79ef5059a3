"""What the programs that train classifiers share: the run, the baseline's figures, the table and the diagram."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, Trainer, set_seed
from transformers.utils import logging

from hf_scorevi import ScoreVITrainer
from hf_scorevi.hub import Evaluation
from hf_scorevi.image_data import InputError
from hf_scorevi.metrics import ReliabilityBins, classification_metrics, reliability_bins
from trainer import _cli, _model, _sources
from trainer._training import PointTrainer, PosteriorArguments, RunArguments, check_saved, finish, origin, train

__all__ = ["Program", "TrainingArguments", "card", "main"]

METRICS = {"classes": ("accuracy", "nll", "ece", "brier"), "numbers": ("mse", "mae", "nll", "crps")}


@dataclass(frozen=True)
class Program:
    """
    What makes a program one for images, or for texts.

    Attributes:
        inputs: what is classified, in the plural.
        arguments: dataclasses of the model, the data and the run.
        auto: loads the model.
        load_part: what makes the model's inputs, from the arguments of the model and its configuration.
        model_inputs: data as the model takes them, from data, their arguments, that part, the configuration, and
            whether they are to be trained on.
        task: as the Hub calls it.
        tags: of the card.
    """

    inputs: str
    arguments: tuple[Any, Any, Any]
    auto: Any
    load_part: Callable[..., Any]
    model_inputs: Callable[..., Any]
    task: str
    tags: tuple[str, ...]


@dataclass
class TrainingArguments(RunArguments):
    """`RunArguments` for rows that are made when they are asked for."""

    _argument_group_name: ClassVar[str] = "score-matching variational inference"

    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Always off here: rows are made when they are asked for."}
    )

    def __post_init__(self) -> None:
        self.remove_unused_columns = False
        self.label_names = ["labels"]  # the Trainer would have to guess them behind an adapter
        super().__post_init__()


class PointMetrics:
    """The baseline's `compute_metrics`, which also keeps what it last saw, for the diagram."""

    def __init__(self) -> None:
        self.reliability: dict[str, ReliabilityBins] = {}

    def __call__(self, evaluation: EvalPrediction) -> dict[str, Any]:
        outputs: Any = evaluation.predictions
        labels: Any = evaluation.label_ids
        if outputs.shape[1] == 1:  # numbers
            errors = outputs[:, 0].astype(np.float64) - labels
            return {"mse": float((errors**2).mean()), "mae": float(abs(errors).mean())}
        probabilities = torch.from_numpy(outputs).double().softmax(-1).numpy()
        self.reliability = {"adamw": reliability_bins(probabilities, labels)}
        return classification_metrics(probabilities, labels)


def make_trainer(
    program: Program,
    model_args: _model.ModelArguments,
    posterior_args: PosteriorArguments,
    args: TrainingArguments,
    config: PreTrainedConfig,
    **kwargs: Any,
) -> Trainer:
    """The trainer over a model that is to be trained, or over a saved one that is only to be evaluated."""
    model = _model.load_model(model_args, config, program.auto)
    if model_args.lora_r is not None and args.do_train and isinstance(model, PreTrainedModel):
        model = _model.add_lora(model, model_args)
    if posterior_args.baseline is not None:
        kwargs |= {"compute_metrics": PointMetrics(), "preprocess_logits_for_metrics": first_output}
        trainer: Trainer = PointTrainer(model, args, **kwargs)
    else:
        saved = None if args.do_train else model_args.model_name_or_path
        posterior_config = posterior_args.config() if saved is None else None
        trainer = ScoreVITrainer(model, args, posterior_config=posterior_config, **kwargs)
        if saved is not None:
            trainer.load_model(saved)
    return trainer


def first_output(outputs: Any, labels: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def evaluate(
    trainer: Trainer, args: TrainingArguments, posterior_args: PosteriorArguments, config: PreTrainedConfig
) -> dict[str, float]:
    metrics = trainer.evaluate()
    metrics["eval_samples"] = len(trainer.eval_dataset)  # type: ignore[arg-type]
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        print(table(metrics, posterior_args, "numbers" if config.num_labels == 1 else "classes"))
        measured = trainer.evaluation if isinstance(trainer, ScoreVITrainer) else trainer.compute_metrics
        bins = measured.reliability if isinstance(measured, Evaluation | PointMetrics) else None
        if find_spec("matplotlib") is not None and bins:
            from hf_scorevi.plots import reliability_diagram

            reliability_diagram(bins).savefig(Path(str(args.output_dir), "reliability.png"))
    return metrics


def table(metrics: dict[str, float], args: PosteriorArguments, predicts: str) -> str:
    """What was found; a metric that the baseline does not have is a dash."""
    rows = {args.baseline: "eval_"} if args.baseline else {"predictive": "eval_", "mean": "eval_mean_"}
    lines = [" " * 12 + "".join(f"{name:>10}" for name in METRICS[predicts])]
    for row, prefix in rows.items():
        values = [metrics.get(prefix + name) for name in METRICS[predicts]]
        lines.append(f"{row:<12}" + "".join(f"{'-' if v is None else format(v, '.4f'):>10}" for v in values))
    return "\n".join(lines)


def run(
    program: Program,
    model_args: _model.ModelArguments,
    data_args: _sources.SourceArguments,
    posterior_args: PosteriorArguments,
    args: TrainingArguments,
) -> dict[str, float]:
    """Train and evaluate as asked; the evaluation's metrics."""
    if not args.do_train and posterior_args.baseline is None:
        check_saved(model_args.model_name_or_path)
    set_seed(args.seed)  # before a new head is initialised
    with args.main_process_first(desc="reading the data"):
        train_data, eval_data, names = _sources.load_data(data_args, model_args.token, args.seed, args.do_train)
    if args.do_eval and eval_data is None:
        flags = " or ".join(f"--validation_{kind}" for kind in data_args.local)
        raise InputError(
            f"There are no data to evaluate on: give {flags}, a --train_val_split above 0, or --do_train alone."
        )
    config = _model.load_config(model_args, names)
    part = program.load_part(model_args, config)
    data = {"train_dataset": train_data if args.do_train else None, "eval_dataset": eval_data}
    data = {
        name: None if own is None else program.model_inputs(own, data_args, part, config, train="train" in name)
        for name, own in data.items()
    }
    if args.should_log:
        sizes = [0 if own is None else len(own) for own in data.values()]
        predicted = "numbers" if config.num_labels == 1 else f"{config.num_labels} classes"
        print(f"{predicted}; {sizes[0]} {program.inputs} to train on, {sizes[1]} to evaluate on")

    trainer = make_trainer(program, model_args, posterior_args, args, config, processing_class=part, **data)
    if args.do_train:
        train(trainer, args, config)
    metrics = evaluate(trainer, args, posterior_args, config) if args.do_eval else {}
    finish(trainer, args, card(program, model_args, data_args))
    return metrics


def card(program: Program, model_args: _model.ModelArguments, data_args: _sources.SourceArguments) -> dict[str, Any]:
    """What the model card says about this run's origin."""
    found = origin(model_args.model_name_or_path, data_args.dataset_name, data_args.source)
    return {"tasks": program.task, "tags": [program.task, *program.tags], **found}


def main(program: Program, argv: Sequence[str] | None, description: str, examples: str) -> dict[str, float]:
    """The program; `argv` defaults to the command line. Returns the evaluation's metrics."""
    model, data, training = program.arguments
    dataclasses = (model, data, PosteriorArguments, training)
    arguments = _cli.parse(dataclasses, sys.argv[1:] if argv is None else argv, description, examples)
    logging.set_verbosity(arguments[-1].get_process_log_level())
    try:
        return run(program, *arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
