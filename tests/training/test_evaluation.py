import numpy as np
import pytest
import torch

from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.metrics import classification_metrics
from hf_scorevi.posterior import draw_seed
from tests.tiny_models import Examples, LinearRegression, arguments, images, tiny_vit


@pytest.fixture
def trainer(tmp_path):
    t = ScoreVITrainer(
        tiny_vit(),
        arguments(tmp_path, eval_num_samples=5, per_device_eval_batch_size=10),
        train_dataset=images(),
        eval_dataset=images(25, seed=1),
        posterior_config=PosteriorConfig(init_std=0.5),
    )
    t.train()
    return t


def by_hand(trainer, data) -> tuple[np.ndarray, np.ndarray]:
    """Predictive and mean probabilities, the plain way."""
    model = trainer.model.eval()
    inputs = data.columns["pixel_values"]
    with torch.no_grad():
        mean = model(inputs).logits.softmax(-1)
        total = torch.zeros_like(mean)
        for draw in range(5):
            with trainer.posterior.sampled(draw_seed(trainer.args.seed, draw)):
                total += model(inputs).logits.softmax(-1)
    return (total / 5).numpy(), mean.numpy()


def test_evaluate_reports_predictive_and_mean(trainer):
    data = images(25, seed=1)
    metrics = trainer.evaluate()
    predictive, mean = by_hand(trainer, data)
    labels = data.columns["labels"].numpy()
    for start, probabilities in {"eval_": predictive, "eval_mean_": mean}.items():
        expected = classification_metrics(probabilities, labels)
        assert expected.pop("ece_bins") == 15  # a setting, which nobody is to add to figures or to draw a curve of
        assert {name: metrics[start + name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert metrics["eval_nll"] != pytest.approx(metrics["eval_mean_nll"], abs=1e-4)
    assert not [name for name in metrics if "bins" in name]
    # batches of 10, 10 and 5: the loop repeats each batch's loss and cuts to the data set's length
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_nll"], rel=1e-5)


def test_predict_returns_log_probabilities_of_the_predictive(trainer):
    data = images(25, seed=1)
    output = trainer.predict(data)
    predictive, _ = by_hand(trainer, data)
    assert np.allclose(np.exp(output.predictions), predictive, atol=1e-6)
    assert output.metrics["test_accuracy"] >= 0


def test_evaluation_leaves_the_mean_and_can_be_repeated(trainer):
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    first, second = trainer.evaluate(), trainer.evaluate()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert first["eval_nll"] == second["eval_nll"]


def test_unlabelled_data_are_predicted(trainer):
    output = trainer.predict(Examples(pixel_values=images(7).columns["pixel_values"]))
    assert output.predictions.shape == (7, 3)
    assert output.label_ids is None


def test_the_users_own_metrics_see_the_predictive_and_join_ours(tmp_path):
    t = ScoreVITrainer(
        tiny_vit(),
        arguments(tmp_path),
        train_dataset=images(),
        eval_dataset=images(6),
        compute_metrics=lambda e: {"mine": float(e.predictions.shape[1]), "sum": float(np.exp(e.predictions).sum())},
    )
    metrics = t.evaluate()
    assert metrics["eval_mine"] == 3
    assert metrics["eval_sum"] == pytest.approx(6, rel=1e-5)
    assert "eval_ece" in metrics


def test_the_users_preprocessing_is_applied_and_ours_keeps_the_outputs(tmp_path):
    t = ScoreVITrainer(
        tiny_vit(),
        arguments(tmp_path),
        train_dataset=images(),
        eval_dataset=images(6),
        compute_metrics=lambda e: {"classes": float(e.predictions.max())},
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    metrics = t.evaluate()
    assert metrics["eval_classes"] in (0, 1, 2)
    assert "eval_ece" in metrics
    assert t.predict(images(6)).predictions.shape == (6,)


def kept_bytes(monkeypatch) -> list[int]:
    """Of what the evaluation loop keeps of each batch."""
    from transformers.trainer_pt_utils import EvalLoopContainer

    seen: list[int] = []
    add = EvalLoopContainer.add

    def count(tensors) -> int:
        return tensors.nbytes if isinstance(tensors, torch.Tensor) else sum(map(count, tensors))

    monkeypatch.setattr(
        EvalLoopContainer, "add", lambda own, tensors: seen.append(count(tensors)) or add(own, tensors)
    )
    return seen


def test_of_many_classes_little_is_kept(tmp_path, monkeypatch):
    classes, count = 500, 60
    data = Examples(pixel_values=images(count).columns["pixel_values"], labels=torch.arange(count) % classes)

    def evaluated(preprocess):
        args = arguments(tmp_path, eval_num_samples=4, per_device_eval_batch_size=20)
        model = tiny_vit(num_labels=classes)
        own = None if preprocess is None else lambda e: {"mine": float(np.mean(e.label_ids == e.predictions.T))}
        hooks = {"compute_metrics": own, "preprocess_logits_for_metrics": preprocess}
        posterior = PosteriorConfig(init_std=0.1)
        trainer = ScoreVITrainer(
            model, args, train_dataset=data, eval_dataset=data, posterior_config=posterior, **hooks
        )
        seen = kept_bytes(monkeypatch)
        metrics = trainer.evaluate()
        monkeypatch.undo()
        return metrics, sum(seen) / count, trainer

    plain, least, trainer = evaluated(None)
    slim, little, _ = evaluated(lambda logits, labels: logits.argmax(-1))
    _, most, _ = evaluated(lambda logits, labels: logits)
    assert least <= 4  # the loss: without a compute_metrics nobody asks for tables
    assert little <= 4 + 8 + 8  # and two class numbers
    assert 4 * classes < most < 1.2 * 4 * classes  # the predictive's table, which compute_metrics gets
    assert slim["eval_mine"] == slim["eval_accuracy"]
    figures = {name for name in plain if not name.endswith(("_runtime", "_per_second", "_time"))}
    assert {name: slim[name] for name in figures} == {name: plain[name] for name in figures}
    with torch.no_grad():
        mean = trainer.model.eval()(data.columns["pixel_values"]).logits.double().softmax(-1).numpy()
    expected = classification_metrics(mean, data.columns["labels"].numpy())
    del expected["ece_bins"]
    assert {name: slim[f"eval_mean_{name}"] for name in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("preprocess", [None, lambda logits, labels: logits.argmax(-1)])
def test_batches_that_stay_apart_have_the_same_figures(tmp_path, preprocess):
    data, shapes = images(22), []

    def own(found):
        shapes.append([type(part).__name__ for part in (found.predictions, found.label_ids)])
        predictions = np.concatenate(found.predictions) if isinstance(found.predictions, list) else found.predictions
        return {"sum": float(predictions.sum())}

    found = []
    for together in (True, False):
        args = arguments(tmp_path, per_device_eval_batch_size=5, eval_do_concat_batches=together)
        trainer = ScoreVITrainer(tiny_vit(), args, train_dataset=data, eval_dataset=data, compute_metrics=own,
                                 preprocess_logits_for_metrics=preprocess)  # fmt: skip
        metrics = trainer.evaluate()
        output = trainer.predict(data)
        found.append(({k: v for k, v in metrics.items() if not k.endswith(("_runtime", "_second", "_time"))}, output))
    (figures, whole), (others, parts) = found
    assert figures == others and "eval_nll" in figures and "eval_sum" in figures
    assert shapes == [["ndarray", "ndarray"]] * 2 + [["list", "list"]] * 2
    assert [len(part) for part in parts.predictions] == [len(part) for part in parts.label_ids] == [5, 5, 5, 5, 2]
    assert np.array_equal(np.concatenate(parts.predictions), whole.predictions)
    assert torch.equal(parts.predictive.probs, whole.predictive.probs)


def test_a_regression_s_batches_may_stay_apart(tmp_path):
    x = torch.randn(22, 2, generator=torch.Generator().manual_seed(0))
    data = Examples(x=x, labels=x.sum(1))
    found = []
    for together in (True, False):
        args = arguments(tmp_path, per_device_eval_batch_size=5, eval_do_concat_batches=together)
        found.append(ScoreVITrainer(LinearRegression(2, 1.0), args, train_dataset=data, eval_dataset=data).evaluate())
    assert found[0]["eval_mse"] == pytest.approx(found[1]["eval_mse"], rel=1e-6)


def test_labels_in_a_column_of_their_own_have_a_loss_and_no_figures(tmp_path):
    """The loss of transformers takes (B, 1) for (B,)."""
    data = images(6)
    column = Examples(pixel_values=data.columns["pixel_values"], labels=data.columns["labels"].unsqueeze(1))
    model = tiny_vit(problem_type="single_label_classification")
    trainer = ScoreVITrainer(model, arguments(tmp_path), train_dataset=data)
    metrics = trainer.evaluate(column)
    # Averaged over draws, where the predictive's NLL is at most that.
    assert metrics["eval_loss"] >= trainer.evaluate(data)["eval_nll"] and "eval_nll" not in metrics


def test_outputs_that_are_not_finite_are_named(tmp_path):
    data = images(6)
    data.columns["pixel_values"][4] = torch.nan
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path), train_dataset=images(6), eval_dataset=data)
    with pytest.raises(ValueError, match="outputs for example 4 are not finite"):
        trainer.evaluate()


def test_prediction_loss_only(tmp_path):
    t = ScoreVITrainer(
        tiny_vit(), arguments(tmp_path, prediction_loss_only=True), train_dataset=images(), eval_dataset=images(6)
    )
    metrics = t.evaluate()
    assert metrics["eval_loss"] > 0
    assert "eval_nll" not in metrics


def test_a_regression_reports_the_error_of_the_averaged_prediction(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 2, generator=generator)
    t = ScoreVITrainer(
        LinearRegression(2, 1.0),
        arguments(tmp_path, max_steps=2, eval_num_samples=400),
        train_dataset=Examples(x=x, labels=x.sum(1)),
        eval_dataset=Examples(x=x, labels=x.sum(1)),
        posterior_config=PosteriorConfig(init_std=1.0),
    )
    t.train()
    metrics = t.evaluate()
    expected = (x @ t.model.weight.detach() - x.sum(1)).square().mean().item()
    assert metrics["eval_mean_mse"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_mse"] == pytest.approx(expected, rel=0.05)


def test_several_labels_an_example_average_probabilities(tmp_path):
    pixels = images(12).columns["pixel_values"]
    data = Examples(
        pixel_values=pixels, labels=(torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    )
    model = tiny_vit(problem_type="multi_label_classification")
    t = ScoreVITrainer(model, arguments(tmp_path, max_steps=2), train_dataset=data,
                       posterior_config=PosteriorConfig(init_std=0.5))  # fmt: skip
    t.train()
    output = t.predict(Examples(pixel_values=pixels))
    total = torch.zeros(12, 3)
    with torch.no_grad():
        for draw in range(4):
            with t.posterior.sampled(draw_seed(t.args.seed, draw)):
                total += model.eval()(pixels).logits.sigmoid()
    assert np.allclose(torch.tensor(output.predictions).sigmoid(), total / 4, atol=1e-5)
    torch.testing.assert_close(output.predictive.probs, total / 4, atol=1e-5, rtol=1e-4)

    data.columns["labels"][0, 0] = -100  # nobody has given this one
    metrics = t.evaluate(data)
    given = data.columns["labels"].flatten()[1:].long()
    probs = (total / 4).flatten()[1:]
    expected = classification_metrics(torch.stack([1 - probs, probs], 1), given)
    for name in ("accuracy", "nll", "ece", "brier"):
        assert metrics[f"eval_{name}"] == pytest.approx(expected[name], rel=1e-4)
    assert t.evaluation.num_examples == 12 and "mse" not in t.evaluation.metrics["predictive"]
    assert [own["num_samples"] for own in t.evaluation.by_num_samples] == [1, 2, 4]


@pytest.mark.parametrize("return_logits", [False, True])
def test_a_prediction_has_its_uncertainties(tmp_path, return_logits):
    data = images(23)
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path, max_steps=3, eval_num_samples=5), train_dataset=data)
    trainer.train()
    predictions, labels, metrics = output = trainer.predict(data, return_logits=return_logits)
    assert metrics["test_nll"] > 0 and labels.tolist() == data.columns["labels"].tolist()
    model = BayesianModel(trainer.model, trainer.posterior, trainer._stored_posterior())
    draws = {"num_samples": 5, "seed": trainer.args.seed}
    expected = model.predict(pixel_values=data.columns["pixel_values"], return_logits=True, **draws)
    found = output.predictive
    assert found.num_samples == 5 and found.samples is None
    assert (found.logits is not None) == return_logits
    names = {"probs", "log_probs", "entropy", "expected_entropy", "mutual_information", "logit_std"}
    for name in names | ({"logits"} if return_logits else set()):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.log_probs, torch.from_numpy(predictions))
    assert not trainer.predict(data).predictive.probs.requires_grad
    assert "logits" not in trainer.evaluate(data) and trainer._predictive is None and trainer._evaluation_run is None


def test_a_regression_s_prediction_has_both_variances(tmp_path):
    data = Examples(pixel_values=images(20).columns["pixel_values"], labels=torch.randn(20, 2))
    model = tiny_vit(num_labels=2, problem_type="regression")
    args = arguments(tmp_path, max_steps=2, eval_num_samples=4)
    trainer = ScoreVITrainer(model, args, train_dataset=data, posterior_config=PosteriorConfig(noise_variance=0.5))
    found = trainer.predict(data, return_logits=True).predictive
    assert found.samples.shape == (4, 20, 2) and found.quantiles.shape == (3, 20, 2)
    torch.testing.assert_close(found.epistemic_variance, found.samples.var(0))
    trainer.args.prediction_loss_only = True
    assert trainer.predict(data).predictive is None
    assert (found.aleatoric_variance == 0.5).all()
