"""Evaluation of heads with several terms an example: their figures, predictions and memory."""

import math

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.evaluation import evaluate, measure
from hf_scorevi.metrics import classification_metrics
from hf_scorevi.posterior import draw_seed
from hf_scorevi.predictive import PredictiveOutput, SpanOutput
from tests.heads import CLASSES, HEADS, LENGTH, Rows, make_head
from tests.tiny_models import arguments

WIDE = PosteriorConfig(init_std=0.3)
TERMS = ("tokens", "masked language", "language", "translation", "spans", "pixels")


def trainer_for(folder, name, rows=8, **settings) -> ScoreVITrainer:
    hooks = {k: settings.pop(k) for k in ("compute_metrics", "preprocess_logits_for_metrics") if k in settings}
    model, data = make_head(name, rows)
    args = arguments(folder, eval_num_samples=3, **{"per_device_eval_batch_size": 3} | settings)
    return ScoreVITrainer(model, args, train_dataset=data, eval_dataset=data, posterior_config=WIDE, **hooks)


def by_hand(name: str, trainer: ScoreVITrainer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of all terms, of the predictive and of the mean, and their labels."""
    rows = trainer.eval_dataset.rows
    batch = {k: torch.stack([row[k] for row in rows]) for k in rows[0]}
    model = trainer.model.eval()
    targets = [batch[target] for target in HEADS[name].targets]

    def tables() -> list[tuple[torch.Tensor, torch.Tensor]]:
        outputs = model(**batch)
        if name == "spans":
            return [(logits, t) for logits, t in zip((outputs.start_logits, outputs.end_logits), targets, strict=True)]
        logits, labels = outputs.logits, targets[0]
        if name == "pixels":
            logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False).movedim(1, -1)
            labels = labels.masked_fill(labels == 255, -100)
        if name == "language":
            logits, labels = logits[:, :-1], labels[:, 1:]
        return [(logits[labels != -100], labels[labels != -100])]

    with torch.no_grad():
        found = [tables()]
        for draw in range(3):
            with trainer.posterior.sampled(draw_seed(trainer.args.seed, draw)):
                found.append(tables())
    probabilities = [torch.cat([logits.double().softmax(-1) for logits, _ in draw]).numpy() for draw in found]
    return sum(probabilities[1:]) / 3, probabilities[0], torch.cat([labels for _, labels in found[0]]).numpy()


@pytest.mark.parametrize("name", TERMS)
def test_the_figures_are_those_over_all_terms(tmp_path, name):
    trainer = trainer_for(tmp_path, name)
    metrics = trainer.evaluate()
    predictive, mean, labels = by_hand(name, trainer)
    for prefix, table in (("eval_", predictive), ("eval_mean_", mean)):
        expected = classification_metrics(table, labels)
        for figure in ("accuracy", "nll", "ece", "brier"):
            assert metrics[prefix + figure] == pytest.approx(expected[figure], abs=2e-5)
        if trainer.head.task == "tokens":
            assert metrics[f"{prefix}perplexity"] == pytest.approx(math.exp(expected["nll"]), rel=1e-4)
    if name != "spans":
        assert metrics["eval_loss"] == metrics["eval_nll"]
    assert metrics["eval_nll"] != pytest.approx(metrics["eval_mean_nll"], abs=1e-4)
    evaluation = trainer.evaluation
    assert evaluation.num_examples == 8 and [own["num_samples"] for own in evaluation.by_num_samples] == [1, 2, 3]
    assert evaluation.reliability["predictive"].counts.sum() == evaluation.num_terms == len(labels)


@pytest.mark.parametrize("name", HEADS)
def test_predictions_are_log_probabilities_in_the_shape_of_the_logits(tmp_path, name):
    seen = []

    def compute_metrics(eval_pred):
        logits, labels = eval_pred
        seen.append((logits, labels))
        return {"mine": 1.0}

    trainer = trainer_for(tmp_path, name, compute_metrics=compute_metrics)
    metrics = trainer.evaluate()
    assert metrics["eval_mine"] == 1.0 and "eval_nll" in metrics
    output = trainer.predict(trainer.eval_dataset)
    rows = trainer.eval_dataset.rows
    batch = {k: torch.stack([row[k] for row in rows]) for k in rows[0]}
    with torch.no_grad():
        outputs = trainer.model.eval()(**batch)
    expected = [outputs[field] for field in trainer.head.predictions]
    given = output.predictions if isinstance(output.predictions, tuple) else (output.predictions,)
    assert [part.shape for part in given] == [tuple(part.shape) for part in expected]
    assert all(
        np.array_equal(a, b) for a, b in zip(seen[0][0] if name == "spans" else (seen[0][0],), given, strict=True)
    )
    assert np.array_equal(seen[0][1][0] if name == "spans" else seen[0][1], batch[HEADS[name].targets[0]].numpy())
    if name != "labels":
        axis = trainer.head.class_axis
        for part in given:
            assert np.exp(part).sum(axis) == pytest.approx(np.ones(part.sum(axis).shape), abs=1e-5)
    if name == "translation":
        return
    trainer.save_model()
    inputs = {k: v for k, v in batch.items() if k not in HEADS[name].targets}
    model = BayesianModel.from_pretrained(tmp_path)
    direct = model.predict(**inputs, num_samples=3, seed=trainer.args.seed)
    both = [direct.start, direct.end] if isinstance(direct, SpanOutput) else [direct]
    if name == "labels":
        given = (np.log(1 / (1 + np.exp(-given[0]))),)
    for mine, theirs in zip(both, given, strict=True):
        torch.testing.assert_close(mine.log_probs, torch.from_numpy(theirs), atol=2e-5, rtol=1e-4)
    assert model.task == trainer.head.task
    told = output.predictive
    assert type(told) is type(direct)
    if isinstance(told, PredictiveOutput):
        torch.testing.assert_close(told.mutual_information, direct.mutual_information, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["tokens", "spans", "pixels"])
def test_batches_apart_streams_and_hooks_give_the_same_figures(tmp_path, name):
    def figures(trainer, data=None):
        found = trainer.evaluate(data)
        return {k: v for k, v in found.items() if not k.endswith(("_time", "_runtime", "_second", "_mine"))}

    plain = figures(trainer_for(tmp_path, name))
    apart = trainer_for(tmp_path, name, eval_do_concat_batches=False)
    assert figures(apart) == plain
    parts = apart.predict(apart.eval_dataset).predictions
    assert [len(part[0] if name == "spans" else part) for part in parts] == [3, 3, 2]

    def classes(logits, labels):
        return (logits[0] if name == "spans" else logits).argmax(-1)

    hooked = trainer_for(
        tmp_path, name, compute_metrics=lambda e: {"mine": 0.0}, preprocess_logits_for_metrics=classes
    )
    assert figures(hooked) == plain
    assert hooked.predict(hooked.eval_dataset).predictions.dtype == np.int64
    if name == "tokens":
        rows = [{k: v.tolist() for k, v in row.items()} for row in apart.eval_dataset.rows]
        stream = datasets.Dataset.from_list(rows).to_iterable_dataset()
        assert figures(trainer_for(tmp_path, name), stream) == plain


def test_several_data_sets_are_each_stored(tmp_path):
    trainer = trainer_for(tmp_path, "tokens")
    _, other = make_head("tokens", 5, seed=3)
    metrics = trainer.evaluate({"first": trainer.eval_dataset, "second": other})
    assert metrics["eval_first_nll"] != metrics["eval_second_nll"]
    trainer.save_model()
    found = BayesianModel.from_pretrained(tmp_path).evaluations
    assert [own.num_examples for own in found] == [8, 5] and len({own.data for own in found}) == 2
    assert found[1].metrics["predictive"]["nll"] == metrics["eval_second_nll"]


def test_texts_of_unlike_length_are_predicted_and_measured(tmp_path):
    trainer = trainer_for(tmp_path, "tokens")
    expected = trainer.evaluate()
    trainer.save_model()
    model = BayesianModel.from_pretrained(tmp_path)
    found = evaluate(model, trainer.eval_dataset, num_samples=3, seed=trainer.args.seed, batch_size=5, use_cpu=True)
    assert found.metrics["predictive"]["nll"] == pytest.approx(expected["eval_nll"], rel=1e-5)
    measured = measure(model, trainer.eval_dataset, num_samples=3, seed=trainer.args.seed, use_cpu=True)
    assert measured.prediction.probs.shape == (8, LENGTH, CLASSES) and measured.labels.shape == (8, LENGTH)
    short = [{k: v[:4] for k, v in row.items()} for row in trainer.eval_dataset.rows[1:]]
    together = Rows(trainer.eval_dataset.rows[:1] * 2)
    parts = model.predict_dataset([*together.rows, *short], batch_size=2, num_samples=2, seed=0)
    assert parts.probs.shape == (9, LENGTH, CLASSES) and parts.probs[2:, 4:].isnan().all()
    assert not parts.probs[:, :4].isnan().any()


def test_labels_that_do_not_fit_the_logits_are_an_error(tmp_path):
    trainer = trainer_for(tmp_path, "tokens")
    rows = [row | {"labels": row["labels"][:-2]} for row in trainer.eval_dataset.rows]
    with pytest.raises(ValueError, match="one label at each place"):
        trainer.evaluate(Rows(rows))


def test_labels_that_are_all_ignored_have_no_figures(tmp_path):
    trainer = trainer_for(tmp_path, "tokens")
    rows = [row | {"labels": torch.full_like(row["labels"], -100)} for row in trainer.eval_dataset.rows]
    assert "eval_nll" not in trainer.evaluate(Rows(rows))


def test_of_tokens_no_table_outlives_its_batch(tmp_path, monkeypatch):
    """Nor does the mean's; nor are those of many batches made together."""
    from hf_scorevi.predictive import classes
    from hf_scorevi.training import evaluation

    live, most = set(), 0
    add, forget = classes.PredictiveAverage.add, lambda own: live.discard(own)

    def counted(self, logits):
        nonlocal most
        import weakref

        if self.num_samples == 0:
            live.add(key := id(self))
            weakref.finalize(self, forget, key)
        add(self, logits)
        most = max(most, len(live))

    monkeypatch.setattr(classes.PredictiveAverage, "add", counted)
    monkeypatch.setattr(evaluation, "TABLE_BYTES", 1)
    trainer_for(tmp_path, "language", rows=30).evaluate()
    assert most <= 3  # of a batch, of the mean's weights, and of the one before until it is dropped
