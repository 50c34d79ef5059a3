"""The runs of the calibration benchmark: one network by AdamW and one by ScoreVI, and what each predicts."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments, set_seed

from benchmarks.evaluation.calibration_tasks import EVAL_BATCH, NUM_CLASSES, QUIET, Data, Images, Task
from hf_scorevi import BayesianModel, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.batch_norm import has_running_statistics
from hf_scorevi.metrics import aurc, classification_metrics, ood_detection, soft_nll
from hf_scorevi.posthoc import apply_temperature, fit_temperature

NUM_SAMPLES = 16
ROWS = {
    "adamw": "AdamW",
    "adamw_temperature": "AdamW + temperature",
    "mean": "ScoreVI, mean weights",
    "predictive": "ScoreVI, predictive",
    "predictive_temperature": "ScoreVI, predictive + temperature",
    "per_draw": "ScoreVI, predictive, BN per draw",
    "per_draw_temperature": "ScoreVI, predictive, BN per draw + temperature",
}


@dataclass
class Predicted:
    """What one method says of one set of images: log probabilities (N, K), mutual information (N,) in nats."""

    log_probs: Tensor
    mutual_information: Tensor | None = None

    @property
    def entropy(self) -> Tensor:
        """Of the probabilities, in nats, (N,)."""
        return torch.special.entr(self.log_probs.double().exp()).sum(-1)

    def scaled(self, temperature: float) -> "Predicted":
        return Predicted(apply_temperature(self.log_probs, temperature))


@dataclass
class Outcome:
    """One method, one seed: predictions by set of images, and what they took."""

    predicted: dict[str, Predicted]
    temperature: float
    seconds: dict[str, float] = field(default_factory=dict)


def arguments(cls: type[TrainingArguments], task: Task, folder: Path, steps: int, rate: float, seed: int) -> Any:
    """What both methods share; for the rest, the library's defaults."""
    return cls(
        str(folder),
        max_steps=steps,
        learning_rate=rate,
        seed=seed,
        per_device_train_batch_size=task.batch_size,
        per_device_eval_batch_size=EVAL_BATCH,
        **QUIET,
    )


def start(pretrained: Path, seed: int) -> Any:
    """The pretrained body with a new head."""
    set_seed(seed)
    return AutoModelForImageClassification.from_pretrained(pretrained, num_labels=NUM_CLASSES)


def train_adamw(task: Task, train: Images, pretrained: Path, folder: Path, rate: float, seed: int) -> nn.Module:
    """Ordinary fine-tuning."""
    args = arguments(TrainingArguments, task, folder, task.gradient_evaluations, rate, seed)
    model = start(pretrained, seed)
    Trainer(model, args, train_dataset=train).train()
    return model.eval()


def score_vi_steps(gradient_evaluations: int, curvature_interval: int) -> int:
    """Optimizer steps that use up so many gradient evaluations, counting a curvature step twice."""
    steps = gradient_evaluations
    while steps + math.ceil(steps / curvature_interval) > gradient_evaluations:
        steps -= 1
    return steps


def train_score_vi(
    task: Task, train: Images, pretrained: Path, folder: Path, rate: float, seed: int
) -> tuple[ScoreVITrainer, BayesianModel]:
    """Bayesian fine-tuning with the library's defaults; the model is loaded from the checkpoint."""
    steps = score_vi_steps(task.gradient_evaluations, ScoreVITrainingArguments.curvature_interval)
    args = arguments(ScoreVITrainingArguments, task, folder, steps, rate, seed)
    trainer = ScoreVITrainer(start(pretrained, seed), args, train_dataset=train)
    trainer.train()
    trainer.save_model()
    return trainer, BayesianModel.from_pretrained(folder)


def batches(images: Images) -> list[slice]:
    return [slice(i, min(i + EVAL_BATCH, len(images))) for i in range(0, len(images), EVAL_BATCH)]


@torch.no_grad()
def predict_plainly(model: Any, images: Images) -> Predicted:
    """By the weights that are in place."""
    logits = [model(pixel_values=images.pixel_values[rows]).logits for rows in batches(images)]
    return Predicted(torch.cat(logits).log_softmax(-1))


def predict_by_draws(model: BayesianModel, images: Images, seed: int) -> Predicted:
    """By the posterior predictive; all batches see the same draws."""
    found: list[Any] = [
        model.predict(pixel_values=images.pixel_values[rows], num_samples=NUM_SAMPLES, seed=seed)
        for rows in batches(images)
    ]
    probs = torch.cat([output.probs for output in found])
    log_probs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    return Predicted(log_probs, torch.cat([output.mutual_information for output in found]))


def predict_per_draw(trainer: ScoreVITrainer, images: Images) -> Predicted:
    """The same draws, each with batch normalisation's statistics of its own (`batch_norm_per_draw`)."""
    trainer.args.batch_norm_per_draw = True
    return Predicted(torch.as_tensor(trainer.predict(images).predictions))


def outcome(predict: Any, sets: dict[str, Images], training_seconds: float) -> Outcome:
    """Predictions of all sets, and the temperature that suits the validation set's."""
    began = time.perf_counter()
    predicted = {name: predict(images) for name, images in sets.items()}
    seconds = {"training": training_seconds, "prediction": time.perf_counter() - began}
    temperature = fit_temperature(predicted["validation"].log_probs, sets["validation"].labels)
    return Outcome(predicted, temperature, seconds)


def run_seed(
    task: Task, data: Data, pretrained: Path, folder: Path, rates: dict[str, float], seed: int
) -> dict[str, Outcome]:
    """Both methods from the same start, on the same labels; outcomes by row of the report, unscaled."""
    train, validation = task.draw(data, seed)
    sets = {"validation": validation, "test": Images(data.test, data.test_labels)}
    if data.others is not None:
        sets["others"] = Images(data.others, data.test_labels[:1].repeat(len(data.others)))
    began = time.perf_counter()
    adamw = train_adamw(task, train, pretrained, folder / "adamw", rates["adamw"], seed)
    found = {"adamw": outcome(lambda images: predict_plainly(adamw, images), sets, time.perf_counter() - began)}
    began = time.perf_counter()
    trainer, model = train_score_vi(task, train, pretrained, folder / "score_vi", rates["score_vi"], seed)
    took = time.perf_counter() - began
    found["mean"] = outcome(lambda images: predict_plainly(model.model, images), sets, took)
    found["predictive"] = outcome(lambda images: predict_by_draws(model, images, seed), sets, took)
    if has_running_statistics(model.model):
        found["per_draw"] = outcome(lambda images: predict_per_draw(trainer, images), sets, took)
    return found


def with_temperatures(found: dict[str, Outcome]) -> dict[str, Outcome]:
    """The rows of the report: `found` and, but for the mean, each again at its temperature."""
    for name in [name for name in found if name != "mean"]:
        own = found[name]
        scaled = {part: predicted.scaled(own.temperature) for part, predicted in own.predicted.items()}
        found[f"{name}_temperature"] = Outcome(scaled, own.temperature, own.seconds)
    return {row: found[row] for row in ROWS if row in found}


def figures(found: Outcome, data: Data) -> dict[str, float]:
    """What the report shows of one run, measured on the test images."""
    test = found.predicted["test"]
    probs = test.log_probs.double().exp().numpy()
    metrics = classification_metrics(probs, data.test_labels)
    result = {name: metrics[name] for name in ("accuracy", "nll", "ece", "brier")}
    result["aurc"] = aurc(probs, data.test_labels)["aurc"]
    if data.human is not None:
        result["human_nll"] = soft_nll(probs, data.human)["soft_nll"]
    if "others" in found.predicted:
        others = found.predicted["others"]
        is_ood = torch.cat([torch.zeros(len(test.log_probs)), torch.ones(len(others.log_probs))]).long().numpy()
        result["ood_auroc"] = ood_detection(torch.cat([test.entropy, others.entropy]).numpy(), is_ood)["auroc"]
        if test.mutual_information is not None and others.mutual_information is not None:
            scores = torch.cat([test.mutual_information, others.mutual_information]).numpy()
            result["ood_auroc_mi"] = ood_detection(scores, is_ood)["auroc"]
    return result
