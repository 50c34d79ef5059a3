"""How the forecasting benchmark trains a network: as a point, or as the mean of a posterior."""

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainingArguments

from benchmarks.evaluation.forecasting_tasks import Data
from hf_scorevi import BayesianModel, ScoreVITrainer, ScoreVITrainingArguments

OBJECTIVES = {"advi": "elbo", "advi_stl": "elbo_stl", "score_vi": "score"}
BATCH, EVAL_BATCH = 32, 256
LEARNING_RATE = 1e-3
PATIENCE = 3  # evaluations, one an epoch
STOPPING_SAMPLES = 4  # draws of each of them, of a posterior


def arguments(cls: type[TrainingArguments], folder: Path, seed: int, epochs: int, **more: Any) -> Any:
    """What all methods share: the best of all epochs by validation error."""
    return cls(
        str(folder),
        num_train_epochs=epochs,
        learning_rate=LEARNING_RATE,
        max_grad_norm=0.0,
        seed=seed,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=EVAL_BATCH,
        label_names=["future_values"],
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="mse",
        greater_is_better=False,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **more,
    )


def fit(trainer: Any, data: Data) -> dict[str, float]:
    """Trains at a rate that halves after each epoch; epochs, optimizer steps and the best validation error."""
    steps = math.ceil(len(data.train) / BATCH)
    optimizer = trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step // steps))
    with contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints its last log even when silent
        trainer.train()
    trainer.model.eval()
    found = [log["eval_mse"] for log in trainer.state.log_history if "eval_mse" in log]
    return {"epochs": trainer.state.epoch, "steps": trainer.state.global_step, "validation_mse": min(found)}


def mean_squared_error(evaluation: EvalPrediction) -> dict[str, float]:
    predicted: Any = evaluation.predictions
    predicted = predicted[0] if isinstance(predicted, tuple) else predicted
    return {"mse": float(np.square(predicted - evaluation.label_ids).mean())}


def train_point(model: Any, data: Data, folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Ordinary training by AdamW, without weight decay, as Koopa's scripts."""
    trainer = Trainer(
        model,
        arguments(TrainingArguments, folder, seed, epochs),
        train_dataset=data.train,
        eval_dataset=data.validation,
        compute_metrics=mean_squared_error,
        callbacks=[EarlyStoppingCallback(PATIENCE)],
    )
    return fit(trainer, data)


def train_bayesian(
    method: str, model: Any, data: Data, folder: Path, seed: int, epochs: int
) -> tuple[dict[str, float], BayesianModel]:
    """By the library's defaults; the model is loaded from the checkpoint."""
    args = arguments(
        ScoreVITrainingArguments,
        folder,
        seed,
        epochs,
        objective=OBJECTIVES[method],
        eval_num_samples=STOPPING_SAMPLES,
    )
    if method == "score_vi":
        budget = epochs * math.ceil(len(data.train) / BATCH)
        args.max_steps = budget_steps(budget, args.curvature_interval)
    trainer = ScoreVITrainer(
        model,
        args,
        train_dataset=data.train,
        eval_dataset=data.validation,
        callbacks=[EarlyStoppingCallback(PATIENCE)],
    )
    found = fit(trainer, data)
    if method == "score_vi":
        found["steps"] += math.ceil(found["steps"] / args.curvature_interval)  # each of these is run twice
    trainer.save_model(str(folder / "best"))
    return found, BayesianModel.from_pretrained(folder / "best")


def budget_steps(gradient_evaluations: int, curvature_interval: int) -> int:
    """Optimizer steps that use up so many gradient evaluations, counting a curvature step twice."""
    steps = gradient_evaluations
    while steps + math.ceil(steps / curvature_interval) > gradient_evaluations:
        steps -= 1
    return steps
