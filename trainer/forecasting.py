"""
Bayesian training of a forecaster, and ordinary training (`--baseline adamw`) to compare it with.

    python trainer/forecasting.py trainer/recipes/koopa_etth1.yaml --train_file ETTh1.csv
    python trainer/forecasting.py --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import EarlyStoppingCallback, PreTrainedConfig, Trainer, set_seed
from transformers.utils import logging

from hf_scorevi import BayesianModel, ScoreVITrainer
from hf_scorevi.errors import InputError
from hf_scorevi.time_series import SeriesProcessor, SeriesTable

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a program it knows no folder but its own

from trainer import _cli, _series_data, _series_model
from trainer._point_forecasts import PointForecastMetrics, forecast_and_scale
from trainer._training import PointTrainer, PosteriorArguments, RunArguments, check_saved, finish, origin, train

DESCRIPTION = """\
Train a forecaster of several channels and learn a Gaussian posterior over its weights, by score-matching variational
inference. The series is cut in time into training, validation and test, and standardised by its training part.
Evaluation reports, of the posterior predictive and of the mean's weights, MSE, MAE, NLL, CRPS and how much the 90 %
intervals cover, and draws forecast.png. The output folder holds the mean, which plain transformers loads, the
posterior with its noise, and the processor that knows the units of the series.

RECIPE.yaml (or .json) holds the same settings by name; flags override it. A switch that is on by default is turned off
with --no_ before its name."""

EXAMPLES = """\
examples:
  a recipe
    %(prog)s trainer/recipes/koopa_etth1.yaml --train_file ETTh1.csv
  your own table, a new PatchTST, a day ahead from two weeks of hours
    %(prog)s --train_file load.csv --model_type patchtst --context_length 336 --prediction_length 24
  some of its columns, gaps in them filled, the last 1,000 rows to test
    %(prog)s --train_file load.csv --model_type koopa --channels load wind --missing ffill --split 7000 1000 1000
  settings of the model; a head that models a distribution; a noise variance for each channel
    %(prog)s --train_file load.csv --model_type koopa --model_config '{"num_blocks": 4}' --noise_variance channel
    %(prog)s --train_file load.csv --model_type patchtst --model_config '{"loss": "nll"}'
  the same data and settings without a posterior
    %(prog)s trainer/recipes/koopa_etth1.yaml --train_file ETTh1.csv --baseline adamw --output_dir outputs/adamw
  continue after an interruption; evaluate what was saved
    %(prog)s trainer/recipes/koopa_etth1.yaml --train_file ETTh1.csv --resume_from_checkpoint True
    %(prog)s --train_file ETTh1.csv --split etth --model_name_or_path outputs/koopa_etth1 --do_eval
"""

METRICS = ("mse", "mae", "nll", "crps", "coverage_90")
_PREFIXES = {"validation": "eval", "test": "test"}


@dataclass
class TrainingArguments(RunArguments):
    """`RunArguments` with the defaults of this program."""

    _argument_group_name: ClassVar[str] = "score-matching variational inference"

    output_dir: str = field(
        default="outputs/forecasting", metadata={"help": "Folder for checkpoints, results and the model."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "The initial learning rate."})
    num_train_epochs: float = field(default=10, metadata={"help": "Epochs to train for."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Windows a step and process."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Windows a batch of the evaluation."})
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after so many evaluations without a better --metric_for_best_model (loss; mse, nll, "
                          "crps), and keep the best checkpoint."},
    )  # fmt: skip
    halve_learning_rate: bool = field(
        default=False, metadata={"help": "Halve it after each epoch but the first, as Koopa's own training does."}
    )

    def __post_init__(self) -> None:
        self.label_names = ["future_values"]  # the Trainer cannot guess them
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(f"early_stopping_patience must be at least 1, not {self.early_stopping_patience}")
            self.load_best_model_at_end = True
            if self.eval_strategy == "no":
                self.eval_strategy = "epoch"
            # What is the best can only be kept if it is saved.
            self.save_strategy, self.save_steps = self.eval_strategy, self.eval_steps or self.save_steps
        super().__post_init__()


class HalvedLearningRate(Trainer):
    """A Trainer whose learning rate may be halved epoch by epoch."""

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        args: Any = self.args
        if args.halve_learning_rate and self.lr_scheduler is None:
            steps = max(1, round(num_training_steps / args.num_train_epochs))
            optimizer = self.optimizer if optimizer is None else optimizer
            assert optimizer is not None
            self.lr_scheduler = LambdaLR(optimizer, lambda step: 0.5 ** max(0, step // steps - 1))
        return super().create_scheduler(num_training_steps, optimizer)


class BayesianTrainer(HalvedLearningRate, ScoreVITrainer):
    """The posterior's."""


class BaselineTrainer(HalvedLearningRate, PointTrainer):
    """The baseline's."""


def make_trainer(
    model_args: _series_model.ModelArguments,
    posterior_args: PosteriorArguments,
    args: TrainingArguments,
    config: PreTrainedConfig,
    **kwargs: Any,
) -> Trainer:
    """The trainer over a model that is to be trained, or over a saved one that is only to be evaluated."""
    model = _series_model.load_model(model_args, config)
    if args.early_stopping_patience is not None and args.do_train:
        kwargs["callbacks"] = [EarlyStoppingCallback(args.early_stopping_patience)]
    if posterior_args.baseline is not None:
        if getattr(config, "loss", None) == "mse":
            metrics = PointForecastMetrics(posterior_args.config().noise_variance)
            kwargs |= {"compute_metrics": metrics, "preprocess_logits_for_metrics": forecast_and_scale}
        else:
            args.prediction_loss_only = True  # the loss is the NLL
        return BaselineTrainer(model, args, **kwargs)
    saved = None if args.do_train else model_args.model_name_or_path
    posterior_config = posterior_args.config() if saved is None else None
    trainer = BayesianTrainer(model, args, posterior_config=posterior_config, **kwargs)
    if saved is not None:
        trainer.load_model(saved)
    return trainer


def evaluate(
    trainer: Trainer, args: TrainingArguments, posterior_args: PosteriorArguments, data: _series_data.SeriesData
) -> dict[str, float]:
    """Metrics on validation, by the prefix eval_, and test, by test_. The figures of the card are the last ones."""
    found: dict[str, float] = {}
    metrics_of = trainer.compute_metrics
    for part, prefix in _PREFIXES.items():
        windows = data.windows.get(part)
        if windows is None:
            continue
        if isinstance(metrics_of, PointForecastMetrics):
            metrics_of.fitting = part == "validation"
        metrics = trainer.evaluate(windows, metric_key_prefix=prefix)
        if args.prediction_loss_only:
            metrics[f"{prefix}_nll"] = metrics[f"{prefix}_loss"]
        metrics[f"{prefix}_samples"] = len(windows)
        trainer.log_metrics(prefix, metrics)
        trainer.save_metrics(prefix, metrics)
        if trainer.is_world_process_zero():
            print(table(part, prefix, metrics, posterior_args))
        found |= metrics
    return found


def table(part: str, prefix: str, metrics: dict[str, float], args: PosteriorArguments) -> str:
    """What was found on one part; a metric that the model's likelihood does not have is a dash."""
    rows = {args.baseline: f"{prefix}_"} if args.baseline else {"predictive": f"{prefix}_", "mean": f"{prefix}_mean_"}
    lines = [f"{part:<12}" + "".join(f"{name:>13}" for name in METRICS)]
    for row, start in rows.items():
        values = [metrics.get(start + name) for name in METRICS]
        lines.append(f"{row:<12}" + "".join(f"{'-' if v is None else format(v, '.4f'):>13}" for v in values))
    return "\n".join(lines)


def draw_forecast(
    folder: str, output_dir: str, data: _series_data.SeriesData, series: SeriesTable, processor: SeriesProcessor
) -> None:
    """forecast.png: the first window of the test part, or of validation, in the units of the series."""
    from hf_scorevi.plots import fan_chart

    part = next((name for name in ("test", "validation") if name in data.windows), None)
    if part is None:
        return
    windows = data.windows[part]
    inputs: dict[str, Any] = {name: value[None] for name, value in windows[0].items() if name != "future_values"}
    forecast = processor.inverse(BayesianModel.from_pretrained(folder).forecast(**inputs, seed=0))
    start = getattr(data.splits, part).start
    middle = start + windows.context_length
    end = middle + windows.prediction_length
    times = None if series.times is None else series.times[start:end].to_numpy()
    if times is not None and not (times[1:] > times[:-1]).all():
        times = None  # irregular ones, taken for equally spaced
    figure = fan_chart(
        forecast, series.values[start:middle], series.values[middle:end], names=processor.channels, times=times
    )
    figure.savefig(Path(output_dir, "forecast.png"))


def run(
    model_args: _series_model.ModelArguments,
    data_args: _series_data.DataArguments,
    posterior_args: PosteriorArguments,
    args: TrainingArguments,
) -> dict[str, float]:
    """Train and evaluate as asked; the evaluation's metrics."""
    saved = model_args.model_name_or_path
    if not args.do_train:
        if saved is None:
            raise InputError("There is no model to evaluate: give --model_name_or_path the output folder of a run.")
        if posterior_args.baseline is None:
            check_saved(saved)
    set_seed(args.seed)  # before a new model is initialised
    try:
        with args.main_process_first(desc="reading the data"):
            series = _series_data.load_table(data_args, model_args.token)
        rows = _series_data.part_rows(data_args.split, len(series.values))
        processor = _series_model.load_processor(model_args, series, rows[0], args.do_train)
        training_part = processor.standardize(series.values[: rows[0]])
        config = _series_model.make_config(model_args, data_args, series, training_part, args.do_train)
        data = _series_data.make_windows(series, rows, processor, config, data_args)
    except ValueError as error:
        raise InputError(str(error)) from error
    check_parts(data, args)
    if args.should_log:
        sizes = ", ".join(f"{len(windows)} to {name}" for name, windows in data.windows.items())
        names = ", ".join(series.channels[:8]) + (", ..." if len(series.channels) > 8 else "")
        print(f"{len(series.channels)} channels ({names}), {len(series.values)} time steps; windows: {sizes}")

    datasets = {"train_dataset": data.windows["train"], "eval_dataset": data.windows.get("validation")}
    trainer = make_trainer(model_args, posterior_args, args, config, processing_class=processor, **datasets)
    if args.do_train:
        train(trainer, args, config)
        trainer.remove_callback(EarlyStoppingCallback)  # which would look for the validation's loss among the test's
    metrics = evaluate(trainer, args, posterior_args, data) if args.do_eval else {}
    finish(trainer, args, card(model_args, data_args))
    bayesian = posterior_args.baseline is None and args.do_eval
    if bayesian and trainer.is_world_process_zero() and find_spec("matplotlib") is not None:
        draw_forecast(str(args.output_dir if args.do_train else saved), str(args.output_dir), data, series, processor)
    return metrics


def check_parts(data: _series_data.SeriesData, args: TrainingArguments) -> None:
    """What the run needs must be there."""
    if args.do_eval and len(data.windows) == 1:
        raise InputError(
            "There is nothing to evaluate on: leave rows to validation or test with --split, or give --do_train alone."
        )
    if args.do_train and "validation" not in data.windows and args.eval_strategy != "no":
        raise InputError(
            "There is no validation part to evaluate on while training: leave rows to it with --split, or give "
            "neither --early_stopping_patience nor --eval_strategy."
        )


def card(model_args: _series_model.ModelArguments, data_args: _series_data.DataArguments) -> dict[str, Any]:
    """What the model card says about this run's origin."""
    found = origin(model_args.model_name_or_path, data_args.dataset_name, data_args.train_file)
    return {"tasks": "time-series-forecasting", "tags": ["time-series-forecasting"], **found}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """The program; `argv` defaults to the command line. Returns the evaluation's metrics."""
    dataclasses = (
        _series_model.ModelArguments,
        _series_data.DataArguments,
        PosteriorArguments,
        TrainingArguments,
    )
    arguments = _cli.parse(dataclasses, sys.argv[1:] if argv is None else argv, DESCRIPTION, EXAMPLES)
    logging.set_verbosity(arguments[-1].get_process_log_level())
    try:
        return run(*arguments)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
