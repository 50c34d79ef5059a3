"""By which metric a model is chosen: which way it is better, and what a search sums."""

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import HPSearchBackend

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.metrics import find_figure
from hf_scorevi.training import best_metric
from tests.forecasters import tiny_informer, tiny_koopa
from tests.tiny_models import Examples, LinearRegression, arguments, images, tiny_vit
from tests.training.test_forecasters import windows


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("crps", False), ("mae", False), ("eval_mean_mse", False), ("mean_nll", False), ("brier", False),
        ("adaptive_ece", False), ("loss", False), ("eval_accuracy", True), ("auroc", True), ("fpr95", False),
        ("night_crps", False), ("wer", True), ("perplexity", False), ("eval_mean_perplexity", False),
    ],
)  # fmt: skip
def test_the_arguments_know_which_way_a_figure_is_better(tmp_path, metric, greater):
    assert arguments(tmp_path, metric_for_best_model=metric).greater_is_better is greater
    assert (
        arguments(tmp_path, metric_for_best_model=metric, greater_is_better=not greater).greater_is_better != greater
    )


def test_a_figure_without_a_better_way_chooses_nothing(tmp_path):
    with pytest.raises(ValueError, match="'eval_coverage_90' cannot choose a model: of the 90 % coverage, neither"):
        arguments(tmp_path, metric_for_best_model="eval_coverage_90")
    assert arguments(tmp_path, metric_for_best_model="coverage_90", greater_is_better=True).greater_is_better


def trainer_by(tmp_path, metric, evals=None, **settings):
    args = arguments(tmp_path, max_steps=1, metric_for_best_model=metric, **settings)
    own = lambda found: {"token_nll": 1.0, "wer": 0.5, "top_accuracy": 0.5, "neg_mse": -1.0}  # noqa: E731
    data = evals or images(6)
    return ScoreVITrainer(tiny_vit(), args, train_dataset=images(8), eval_dataset=data, compute_metrics=own)


def test_names_of_data_sets_are_known_when_training_begins(tmp_path):
    two = {"night": images(6), "day_nll": images(6)}
    trainer = trainer_by(tmp_path, "night_brier", two, eval_strategy="steps", eval_steps=1)
    trainer.train()
    assert trainer.args.greater_is_better is False
    with pytest.raises(ValueError, match="'night_coverage_90' cannot choose a model"):
        trainer_by(tmp_path, "night_coverage_90", two).train()


def test_a_metric_of_the_users_own_is_asked_about_or_named(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(best_metric.logger, "warning", said.append)
    for metric in ("token_nll", "neg_mse"):  # by its name one of ours, but whose?
        with pytest.raises(
            ValueError, match=f"'{metric}' is a metric of your own: say whether a greater one is better"
        ):
            trainer_by(tmp_path, metric).train()
        trainer_by(tmp_path, metric, greater_is_better=False).train()
    trainer_by(tmp_path, "top_accuracy").train()
    assert not said
    trainer_by(tmp_path, "wer").train()
    assert len(said) == 1 and "'wer' is a metric of your own: a greater one is taken to be better" in said[0]


class MadeUp(ScoreVITrainer):
    """Evaluates to figures that are given, one after another."""

    figures: Iterator[dict[str, float]]

    def evaluate(self, *args, **kwargs):
        found = next(self.figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


@pytest.mark.parametrize("metric", ["crps", "mae", "mean_mae", "accuracy"])
def test_the_best_is_kept_and_early_stopping_waits_for_worse(tmp_path, metric):
    lower = [0.5, 0.4, 0.3, 0.4, 0.5, 0.6]
    values = [1 - value for value in lower] if metric == "accuracy" else lower
    config = dict(max_steps=6, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1)
    args = arguments(tmp_path, metric_for_best_model=metric, load_best_model_at_end=True, **config)
    data = {"train_dataset": images(24), "eval_dataset": images(6)}
    trainer = MadeUp(tiny_vit(), args, callbacks=[EarlyStoppingCallback(2)], **data)
    trainer.figures = iter([{f"eval_{metric}": value} for value in values])
    trainer.train()
    assert trainer.state.best_metric == values[2] and trainer.state.best_global_step == 3
    assert trainer.state.global_step == 5


@pytest.mark.parametrize(("metric", "mode"), [("crps", "min"), ("accuracy", "max"), ("loss", "min")])
def test_a_plateau_is_one_of_the_metric_s_own_direction(tmp_path, metric, mode):
    settings = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": metric, "eval_strategy": "epoch"}

    def schedule(**kwargs):
        args = arguments(tmp_path, **settings, **kwargs)
        trainer = ScoreVITrainer(tiny_vit(), args, train_dataset=images(), eval_dataset=images(6))
        trainer.create_optimizer()
        return trainer.create_scheduler(10)

    assert schedule().mode == mode
    given = schedule(lr_scheduler_kwargs={"mode": "max", "patience": 3})
    assert given.mode == "max" and given.patience == 3


# Figures of every head


def classifier(tmp_path):
    pixels = images(90).columns["pixel_values"]
    trainer = ScoreVITrainer(tiny_vit(), arguments(tmp_path, max_steps=60, learning_rate=3e-3),
                             train_dataset=images(90))  # fmt: skip
    trainer.train()
    probabilities = trainer.predict(Examples(pixel_values=pixels)).predictive.probs
    likely = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    return (
        trainer,
        Examples(pixel_values=pixels, labels=likely),
        Examples(pixel_values=pixels, labels=probabilities.argmin(1)),
    )


def labeller(tmp_path):
    pixels = images(60).columns["pixel_values"]
    truth = (pixels.mean((1, 2, 3))[:, None] > torch.tensor([0.3, 1.0, 1.7])).float()
    data = Examples(pixel_values=pixels, labels=truth)
    trainer = ScoreVITrainer(tiny_vit(problem_type="multi_label_classification"),
                             arguments(tmp_path, max_steps=80, learning_rate=3e-3), train_dataset=data)  # fmt: skip
    trainer.train()
    return trainer, data, Examples(pixel_values=pixels, labels=1 - truth)


def regression(tmp_path):
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    y = x.sum(1) + 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    data = Examples(x=x, labels=y)
    trainer = ScoreVITrainer(LinearRegression(2, 1.0), arguments(tmp_path, max_steps=60, learning_rate=0.1),
                             train_dataset=data, posterior_config=PosteriorConfig(init_std=0.01))  # fmt: skip
    trainer.train()
    return trainer, data, Examples(x=x, labels=y + 3)


def forecaster(make):
    def build(tmp_path):
        model = make()
        train, test = windows(model.config)
        trainer = ScoreVITrainer(model, arguments(tmp_path, max_steps=2), train_dataset=train)
        trainer.train()
        rows = [dict(test[i]) for i in range(8)]
        return trainer, rows, [row | {"future_values": row["future_values"] + 10} for row in rows]

    return build


HEADS = {"classes": classifier, "labels": labeller, "numbers": regression, "forecast": forecaster(tiny_koopa),
         "density": forecaster(tiny_informer)}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_every_figure_of_an_evaluation_judges_a_worse_fit_worse(tmp_path, head):
    trainer, fitting, misfitting = HEADS[head](tmp_path)
    good, bad = trainer.evaluate(fitting), trainer.evaluate(misfitting)
    names = {name for name in trainer._own_figures if find_figure(name).greater_is_better is not None}
    assert names and trainer._own_figures <= good.keys()
    assert all("coverage" in name for name in trainer._own_figures - names)
    for name in names:
        assert (good[name] > bad[name]) == find_figure(name).greater_is_better, (name, good[name], bad[name])


# Search


class Backend:
    """Of a search that tries each thing once, in the way that transformers' own do."""

    default_hp_space = staticmethod(lambda trial: {})
    found: ClassVar[list[float]] = []

    def ensure_available(self):
        pass

    def run(self, trainer, n_trials, direction, **kwargs):
        for _ in range(n_trials):
            trainer.train()
            self.found.append(trainer.compute_objective(trainer.evaluate()))


@pytest.mark.parametrize("own", [None, lambda found: {"mine": 3.0, "accuracy": 0.25}])
@pytest.mark.parametrize("several", [False, True])
def test_a_search_without_an_objective_minimises_what_it_does_in_a_trainer(tmp_path, monkeypatch, own, several):
    monkeypatch.setattr("transformers.trainer.ALL_HYPERPARAMETER_SEARCH_BACKENDS", {HPSearchBackend.OPTUNA: Backend})
    monkeypatch.setattr(Backend, "found", [])
    data = {"day": images(6), "night": images(7)} if several else images(6)
    trainer = ScoreVITrainer(
        args=arguments(tmp_path, max_steps=1),
        model_init=lambda: tiny_vit(),
        train_dataset=images(8),
        eval_dataset=data,
        compute_metrics=own,
    )
    trainer.hyperparameter_search(n_trials=2, backend="optuna")
    metrics = trainer.evaluate()
    if several:
        losses = metrics["eval_day_loss"] + metrics["eval_night_loss"]
        expected = losses + (0.0 if own is None else 2 * 3.25)
    else:
        expected = metrics["eval_loss"] if own is None else 3.25
    assert len(Backend.found) == 2 and Backend.found[-1] == pytest.approx(expected, rel=1e-6)
    trainer.hyperparameter_search(n_trials=1, backend="optuna", compute_objective=lambda found: found["eval_day_nll"]
                                  if several else found["eval_nll"])  # fmt: skip
    assert Backend.found[-1] > 0
