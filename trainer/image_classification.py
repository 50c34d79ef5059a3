"""
Bayesian fine-tuning of an image classifier, and ordinary fine-tuning (`--baseline adamw`) to compare it with.

    python trainer/image_classification.py trainer/recipes/vit_b16.yaml --output_dir outputs/pets
    python trainer/image_classification.py --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from transformers import BaseImageProcessor, EvalPrediction, PreTrainedConfig, PreTrainedModel, Trainer, set_seed
from transformers.utils import logging

from hf_scorevi import ScoreVITrainer
from hf_scorevi.hub import Evaluation
from hf_scorevi.metrics import ReliabilityBins, classification_metrics, reliability_bins

if __package__:  # imported from the repository's root
    from trainer import _cli, _data, _model
    from trainer._training import PointTrainer, PosteriorArguments, RunArguments, check_saved, finish, origin, train
else:  # run as a program: this file's folder is where Python looks
    import _cli  # type: ignore[import-not-found, no-redef]
    import _data  # type: ignore[import-not-found, no-redef]
    import _model  # type: ignore[import-not-found, no-redef]
    from _training import (  # type: ignore[import-not-found, no-redef]
        PointTrainer,
        PosteriorArguments,
        RunArguments,
        check_saved,
        finish,
        origin,
        train,
    )

DESCRIPTION = """\
Fine-tune an image classifier of the Hub and learn a Gaussian posterior over its weights, by score-matching variational
inference. Evaluation reports accuracy, NLL, ECE and Brier score of the posterior predictive and of the mean's weights,
and draws reliability.png. The output folder holds the mean, which plain transformers loads, and the posterior.

RECIPE.yaml (or .json) holds the same settings by name; flags override it. A switch that is on by default is turned off
with --no_ before its name."""

EXAMPLES = """\
examples:
  a recipe, one of its settings changed
    %(prog)s trainer/recipes/vit_b16.yaml --learning_rate 1e-4
  your own images, a subfolder a class; a tenth is held out if --validation_dir is not given
    %(prog)s --model_name_or_path microsoft/resnet-50 --train_dir photos --output_dir outputs/photos
  a posterior over a LoRA adapter and the new head only
    %(prog)s --model_name_or_path google/vit-base-patch16-224-in21k --train_dir photos --lora_r 8
  the same data and settings without a posterior
    %(prog)s trainer/recipes/vit_b16.yaml --baseline adamw --output_dir outputs/adamw
  continue after an interruption; evaluate what was saved
    %(prog)s trainer/recipes/vit_b16.yaml --resume_from_checkpoint True
    %(prog)s trainer/recipes/vit_b16.yaml --model_name_or_path outputs/pets_vit_b16 --do_eval
  several processes: one per GPU, or on one CPU
    accelerate launch trainer/image_classification.py trainer/recipes/vit_b16.yaml
    torchrun --standalone --nproc_per_node 2 trainer/image_classification.py trainer/recipes/vit_b16.yaml --use_cpu
"""

METRICS = ("accuracy", "nll", "ece", "brier")


@dataclass
class TrainingArguments(RunArguments):
    """`RunArguments` with the defaults of this program."""

    _argument_group_name: ClassVar[str] = "score-matching variational inference"

    output_dir: str = field(
        default="outputs/image_classification", metadata={"help": "Folder for checkpoints, results and the model."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Always off here: images are read when they are asked for."}
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
        logits: Any = evaluation.predictions
        labels: Any = evaluation.label_ids
        probabilities = torch.from_numpy(logits).double().softmax(-1).numpy()
        self.reliability = {"adamw": reliability_bins(probabilities, labels)}
        return classification_metrics(probabilities, labels)


def make_trainer(
    model_args: _model.ModelArguments,
    posterior_args: PosteriorArguments,
    args: TrainingArguments,
    config: PreTrainedConfig,
    **kwargs: Any,
) -> Trainer:
    """The trainer over a model that is to be trained, or over a saved one that is only to be evaluated."""
    model = _model.load_model(model_args, config)
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


def rows(args: PosteriorArguments) -> dict[str, str]:
    """What is evaluated, and how its metrics' names begin."""
    return {args.baseline: "eval_"} if args.baseline else {"predictive": "eval_", "mean": "eval_mean_"}


def evaluate(trainer: Trainer, args: TrainingArguments, posterior_args: PosteriorArguments) -> dict[str, float]:
    metrics = trainer.evaluate()
    metrics["eval_samples"] = len(trainer.eval_dataset)  # type: ignore[arg-type]
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        print(table(metrics, posterior_args))
        measured = trainer.evaluation if isinstance(trainer, ScoreVITrainer) else trainer.compute_metrics
        if find_spec("matplotlib") is not None and isinstance(measured, Evaluation | PointMetrics):
            from hf_scorevi.plots import reliability_diagram

            reliability_diagram(measured.reliability).savefig(Path(args.output_dir, "reliability.png"))
    return metrics


def table(metrics: dict[str, float], args: PosteriorArguments) -> str:
    lines = [" " * 12 + "".join(f"{name:>10}" for name in METRICS)]
    for row, prefix in rows(args).items():
        lines.append(f"{row:<12}" + "".join(f"{metrics[prefix + name]:>10.4f}" for name in METRICS))
    return "\n".join(lines)


def run(
    model_args: _model.ModelArguments,
    data_args: _data.DataArguments,
    posterior_args: PosteriorArguments,
    args: TrainingArguments,
) -> dict[str, float]:
    """Train and evaluate as asked; the evaluation's metrics."""
    if not args.do_train and posterior_args.baseline is None:
        check_saved(model_args.model_name_or_path)
    set_seed(args.seed)  # before a new head is initialised
    with args.main_process_first(desc="reading the data"):
        train_data, eval_data, names = _data.load_data(data_args, model_args.token, args.seed, args.do_train)
    if args.do_eval and eval_data is None:
        raise _data.InputError(
            "There are no data to evaluate on: give --validation_dir or --validation_file, a --train_val_split above "
            "0, or --do_train alone."
        )
    config = _model.load_config(model_args, names)
    processor = _model.load_processor(model_args, config)
    train_data = model_inputs(train_data, data_args, processor, config, train=True) if args.do_train else None
    eval_data = model_inputs(eval_data, data_args, processor, config, train=False)
    if args.should_log:
        sizes = [0 if data is None else len(data) for data in (train_data, eval_data)]
        print(f"{config.num_labels} classes; {sizes[0]} images to train on, {sizes[1]} to evaluate on")

    datasets = {"train_dataset": train_data, "eval_dataset": eval_data}
    trainer = make_trainer(model_args, posterior_args, args, config, processing_class=processor, **datasets)
    if args.do_train:
        train(trainer, args, config)
    metrics = evaluate(trainer, args, posterior_args) if args.do_eval else {}
    finish(trainer, args, card(model_args, data_args))
    return metrics


def model_inputs(
    data: Dataset | None,
    args: _data.DataArguments,
    processor: BaseImageProcessor,
    config: PreTrainedConfig,
    train: bool,
) -> Dataset | None:
    """`data` as the model takes them."""
    if data is None:
        return None
    channels = getattr(config, "num_channels", 3)
    return _data.with_model_inputs(data, args, processor, _model.class_names(config), channels, train)


def card(model_args: _model.ModelArguments, data_args: _data.DataArguments) -> dict[str, Any]:
    """What the model card says about this run's origin."""
    source = data_args.validation_dir or data_args.train_dir or data_args.validation_file or data_args.train_file
    found = origin(model_args.model_name_or_path, data_args.dataset_name, source)
    return {"tasks": "image-classification", "tags": ["image-classification", "vision"], **found}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """The program; `argv` defaults to the command line. Returns the evaluation's metrics."""
    dataclasses = (_model.ModelArguments, _data.DataArguments, PosteriorArguments, TrainingArguments)
    arguments = _cli.parse(dataclasses, sys.argv[1:] if argv is None else argv, DESCRIPTION, EXAMPLES)
    logging.set_verbosity(arguments[-1].get_process_log_level())
    try:
        return run(*arguments)
    except _data.InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
