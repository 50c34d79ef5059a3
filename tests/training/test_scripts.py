"""What training scripts written for `Trainer` do besides train, evaluate and predict."""

import math

import numpy as np
import pytest
import torch

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from tests.heads import Rows, make_head
from tests.tiny_models import arguments, images, tiny_vit


@pytest.fixture
def said(monkeypatch):
    found = []
    monkeypatch.setattr("hf_scorevi.training.evaluating.logger.warning_once", found.append)
    return found


def test_a_script_that_only_evaluates_is_told_that_the_posterior_has_learned_nothing(tmp_path, said):
    trained = ScoreVITrainer(tiny_vit(), arguments(tmp_path, max_steps=2), train_dataset=images())
    trained.train()
    figures = trained.evaluate(images(9, seed=1))
    trained.save_model()
    assert not said
    weights = {name: value.clone() for name, value in trained.model.state_dict().items()}
    model = tiny_vit(seed=1)
    model.load_state_dict(weights)  # as AutoModel… does
    judge = ScoreVITrainer(model, arguments(tmp_path / "judge"))
    begun = judge.evaluate(images(9, seed=1))
    assert begun["eval_mean_nll"] == pytest.approx(figures["eval_mean_nll"])
    assert begun["eval_nll"] != pytest.approx(figures["eval_nll"], rel=1e-7)
    (warning,) = set(said)
    assert "trainer.load_model" in warning
    said.clear()
    judge.load_model(tmp_path)
    assert judge.evaluate(images(9, seed=1))["eval_nll"] == pytest.approx(figures["eval_nll"], rel=1e-6)
    assert not said


def test_a_script_that_only_evaluates_ends_without_a_card(tmp_path, caplog):
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path / "out"), eval_dataset=images(9))
    trainer.evaluate()
    trainer.create_model_card(tasks="image-classification", finetuned_from="google/vit")
    assert "holds no posterior, so no card is written" in caplog.text
    assert not (tmp_path / "out" / "README.md").exists()


class AnswersTrainer(ScoreVITrainer):
    """As scripts for question answering have it: no metrics within the loop, an evaluation of its own around it."""

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        metrics_of, self.compute_metrics = self.compute_metrics, None
        try:
            loader = self.get_eval_dataloader(self.eval_dataset if eval_dataset is None else eval_dataset)
            output = self.evaluation_loop(
                loader,
                description="Evaluation",
                prediction_loss_only=True if metrics_of is None else None,
                ignore_keys=ignore_keys,
                metric_key_prefix=metric_key_prefix,
            )
        finally:
            self.compute_metrics = metrics_of
        own = {f"{metric_key_prefix}_{name}": value for name, value in metrics_of(output.predictions).items()}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, own | output.metrics)
        return own | output.metrics


def test_a_subclass_for_question_answering_gets_both_tables_of_rows_without_answers(tmp_path):
    model, data = make_head("spans", 8)
    unanswered = Rows([{k: v for k, v in row.items() if "positions" not in k} for row in data.rows])
    seen = []

    def judge(predictions):
        seen.append(predictions)
        return {"exact_match": 0.5}

    args = arguments(tmp_path, max_steps=4, per_device_eval_batch_size=3, eval_strategy="steps", eval_steps=2)
    trainer = AnswersTrainer(
        model,
        args,
        train_dataset=data,
        eval_dataset=unanswered,
        compute_metrics=judge,
        posterior_config=PosteriorConfig(init_std=0.3),
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert len(seen) == 3 and metrics["eval_exact_match"] == 0.5
    assert not [name for name in metrics if "nll" in name or "loss" in name]
    start, end = seen[-1]
    expected = trainer.predict(unanswered).predictive
    assert np.allclose(start, expected.start.log_probs) and np.allclose(end, expected.end.log_probs)
    assert metrics.keys() < trainer.evaluate(data).keys()  # with answers there are figures


def test_perplexity_is_the_exponential_of_the_loss_whatever_is_kept_of_the_logits(tmp_path):
    model, data = make_head("language", 7)
    trainer = ScoreVITrainer(
        model,
        arguments(tmp_path, per_device_eval_batch_size=3),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=lambda given: {"own_accuracy": float(hits(*given))},
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        posterior_config=PosteriorConfig(init_std=0.3),
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(metrics["eval_loss"]))
    assert metrics["eval_accuracy"] == pytest.approx(metrics["eval_own_accuracy"])


def hits(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The share of tokens that were right, each predicted from those before it."""
    there = torch.tensor(labels[:, 1:]) != -100
    return (predictions[:, :-1] == labels[:, 1:])[there.numpy()].mean()
