"""Measuring a checkpoint in Python: the figures are the trainer's, and the model is as it was."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from transformers import ViTConfig, ViTImageProcessorPil

import hf_scorevi.evaluation
from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer
from hf_scorevi.evaluation import evaluate, load_images
from hf_scorevi.hub import StoredPosterior
from hf_scorevi.image_data import InputError
from hf_scorevi.labelled_data import logger
from hf_scorevi.metrics import classification_metrics
from hf_scorevi.posterior import Posterior, select_parameters
from tests.forecasters import tiny_koopa, trained
from tests.pictures import CLASSES, picture, png, save_pictures
from tests.tiny_models import Examples, LinearRegression, arguments, images, tiny_resnet, tiny_vit


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def bayesian(model: torch.nn.Module) -> BayesianModel:
    config = PosteriorConfig(init_std=0.5)
    posterior = Posterior.initialise(select_parameters(model), config)
    return BayesianModel(model, posterior, StoredPosterior(config, num_data=10, temperature=1.0))


def measure(model: BayesianModel, data: Any, **settings: Any) -> Any:
    return evaluate(model, data, **({"num_samples": 3, "use_cpu": True, "disable_tqdm": True} | settings))


# Figures


@pytest.mark.parametrize("make", [tiny_vit, tiny_resnet])
def test_figures_are_those_of_predict(make: Any) -> None:
    model, data = bayesian(make()), images(25, seed=1)
    found = measure(model, data, num_samples=5, seed=7, batch_size=10)
    pixels, labels = data.columns["pixel_values"], data.columns["labels"].numpy()
    for row, use_mean in (("predictive", False), ("mean", True)):
        probs = model.predict(pixel_values=pixels, num_samples=5, seed=7, use_mean=use_mean).probs.numpy()
        expected = classification_metrics(probs, labels)
        del expected["ece_bins"]
        assert found.metrics[row] == pytest.approx(expected, abs=1e-6)
    assert found.metrics["predictive"]["nll"] != pytest.approx(found.metrics["mean"]["nll"], abs=1e-4)
    assert (found.num_examples, found.num_samples, found.seed) == (25, 5, 7)
    assert [own["num_samples"] for own in found.by_num_samples] == [1, 2, 4, 5]


def test_figures_are_those_of_the_trainer(tmp_path: Path) -> None:
    trainer = ScoreVITrainer(
        tiny_vit(),
        arguments(tmp_path, max_steps=12, eval_num_samples=5, seed=3, learning_rate=1e-2),
        train_dataset=images(),
        eval_dataset=images(25, seed=1),
    )
    trainer.train()
    trainer.save_model()
    trainer.evaluate()
    model = BayesianModel.from_pretrained(tmp_path)
    found = measure(model, images(25, seed=1), num_samples=5, seed=3, batch_size=8)
    assert trainer.evaluation is not None and found.to_dict() == trainer.evaluation.to_dict()
    assert found.metrics["predictive"]["accuracy"] > 0.5


def test_figures_of_a_forecaster_are_those_of_the_trainer(tmp_path: Path) -> None:
    trainer = trained(tiny_koopa(), tmp_path, PosteriorConfig(noise_variance="channel"), eval_num_samples=3)
    trainer.evaluate()
    trainer.save_model()
    found = measure(BayesianModel.from_pretrained(tmp_path), trainer.eval_dataset, seed=trainer.args.seed)
    assert trainer.evaluation is not None
    for row, figures in trainer.evaluation.metrics.items():
        assert found.metrics[row] == pytest.approx(figures, rel=1e-5)
    assert {"mse", "nll", "crps", "coverage_90"} <= set(found.metrics["predictive"])
    with pytest.raises(ValueError, match="they need `future_values`"):
        measure(BayesianModel.from_pretrained(tmp_path), Examples(past_values=torch.zeros(3, 16, 2)))


def test_a_regression_has_its_error_measured() -> None:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    found = measure(bayesian(LinearRegression(2, 1.0)), Examples(x=x, labels=x.sum(1)))
    assert found.metrics["mean"]["mse"] == pytest.approx(x.sum(1).square().mean().item(), rel=1e-5)
    assert found.metrics["predictive"]["mse"] > 0


def test_rows_of_another_form_have_a_collator() -> None:
    data = images(9)
    rows = [(row["pixel_values"], int(row["labels"])) for row in data]

    def collate(batch: list[Any]) -> dict[str, Any]:
        return {"pixel_values": torch.stack([x for x, _ in batch]), "labels": torch.tensor([y for _, y in batch])}

    model = bayesian(tiny_vit())
    assert measure(model, rows, data_collator=collate).metrics == measure(model, data).metrics


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        yield from self.rows


def test_a_stream_is_measured_as_what_it_is_made_of() -> None:
    model, data = bayesian(tiny_vit()), images(22)
    rows = [data[i] for i in range(22)]
    expected = measure(model, data)
    plain = [{"pixel_values": row["pixel_values"].numpy(), "labels": int(row["labels"])} for row in rows]
    hub_stream = datasets.IterableDataset.from_generator(lambda: iter(plain))
    for stream in (Stream(rows), hub_stream, hub_stream.map(lambda row: row), tuple(rows)):
        found = measure(model, stream)
        assert found.metrics == expected.metrics and found.num_examples == 22
    assert measure(model, hub_stream.take(5)).num_examples == 5
    pairs = Stream([(row["pixel_values"], int(row["labels"])) for row in rows])

    def collate(batch: list[Any]) -> dict[str, Any]:
        return {"pixel_values": torch.stack([x for x, _ in batch]), "labels": torch.tensor([y for _, y in batch])}

    assert measure(model, pairs, data_collator=collate).metrics == expected.metrics
    for wrong, error, message in (
        (Stream([]), ValueError, "the dataset is empty"),
        (hub_stream.take(0), ValueError, "the dataset is empty"),
        ((hub_stream, hub_stream), ValueError, "several data sets: measure on one"),
        ({"day": hub_stream, "night": data}, ValueError, r"several data sets \(day, night\): measure on one"),
        (datasets.IterableDatasetDict({"test": hub_stream}), ValueError, r"several data sets \(test\)"),
        (iter(rows), TypeError, "list_iterator is no data set: .*datasets.IterableDataset.from_generator"),
        (torch.utils.data.DataLoader(rows), TypeError, "Give the data set itself"),
        (None, TypeError, "NoneType is no data set"),
        (pairs, TypeError, "A row is a tuple, not a dictionary of inputs and labels: give a data_collator"),
    ):
        with pytest.raises(error, match=message):
            measure(model, wrong)  # type: ignore[arg-type]


def test_batches_of_a_measurement_are_together() -> None:
    model, data = bayesian(tiny_vit()), images(9)
    found = hf_scorevi.evaluation.measure(model, data, use_cpu=True, eval_do_concat_batches=False, batch_size=4)
    assert found.labels.tolist() == data.columns["labels"].tolist()


def test_what_has_no_figures_is_refused() -> None:
    model = bayesian(tiny_vit())
    for data, settings, message in (
        (images(0), {}, "the dataset is empty"),
        (Examples(pixel_values=images(3).columns["pixel_values"]), {}, "ViTForImageClassification on these data"),
        (images(3), {"num_samples": 0}, "at least 1, not 0"),
        (images(3), {"bf16_full_eval": True}, "round the weights for good; use bf16=True"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, data, **settings)
    assert all(p.dtype == torch.float32 for p in model.model.parameters())


# What stays


def seed_all() -> None:
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)


def test_model_and_random_states_are_as_before() -> None:
    model, data = bayesian(tiny_vit()), images(9)
    seed_all()
    expected = random.random(), np.random.rand(), torch.rand(1)
    seed_all()
    attributes = set(vars(model.model))
    weights = {name: value.clone() for name, value in model.model.state_dict().items()}
    measure(model, data)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert all(torch.equal(value, weights[name]) for name, value in model.model.state_dict().items())
    assert set(vars(model.model)) == attributes


def test_bf16_holds_for_one_evaluation_and_again_for_the_next() -> None:
    model, data = bayesian(tiny_vit()), images(9)
    nlls = [measure(model, data, bf16=half).metrics["mean"]["nll"] for half in (False, True, False, True)]
    assert nlls[0] == nlls[2] and nlls[1] == nlls[3]
    assert nlls[0] != nlls[1] and nlls[0] == pytest.approx(nlls[1], rel=0.01)


def test_a_bar_shows_the_progress_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    measure(bayesian(tiny_vit()), images(9), batch_size=3, disable_tqdm=False)
    said = capsys.readouterr()
    assert said.out == "" and "3/3" in said.err


# Images


@pytest.fixture(scope="module")
def processor() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": 8, "width": 8})


def named(names: Any = CLASSES, **kwargs: Any) -> ViTConfig:
    return ViTConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}, **kwargs)


def parquet(path: Path, names: list[str], classes: list[int]) -> Path:
    """Pictures of those classes, labelled as data that call classes by `names`."""
    features = Features({"id": Value("int64"), "image": Image(), "label": ClassLabel(names=names)})
    rows = [
        {"id": i, "image": {"bytes": png(picture(c, i)), "path": None}, "label": names.index(CLASSES[c])}
        for i, c in enumerate(classes)
    ]
    Dataset.from_list(rows, features=features).to_parquet(path)
    return path


def test_rows_are_what_the_processor_makes_and_labels_are_the_models(tmp_path: Path, processor: Any) -> None:
    file = parquet(tmp_path / "rows.parquet", ["fox", "dog", "cat"], [0, 2, 1, 1])
    data, described = load_images(str(file), named(), processor)
    assert described == {"dataset": "rows.parquet"}
    assert data[:]["labels"] == [0, 2, 1, 1]
    expected = processor([picture(c, i) for i, c in enumerate([0, 2, 1, 1])], return_tensors="pt")["pixel_values"]
    assert torch.equal(data[:]["pixel_values"], expected)


def test_a_part_of_the_data_is_called_so(tmp_path: Path, processor: Any) -> None:
    save_pictures(tmp_path / "photos", 4)
    data, described = load_images(str(tmp_path / "photos"), named(), processor, max_examples=5, seed=2)
    assert len(data) == 5 and described == {"dataset": "photos", "split": "5 examples drawn with seed 2"}
    again, _ = load_images(str(tmp_path / "photos"), named(), processor, max_examples=5, seed=2)
    other, _ = load_images(str(tmp_path / "photos"), named(), processor, max_examples=5, seed=3)
    assert torch.equal(data[:]["pixel_values"], again[:]["pixel_values"])
    assert not torch.equal(data[:]["pixel_values"], other[:]["pixel_values"])
    whole, described = load_images(str(tmp_path / "photos"), named(), processor, max_examples=12)
    assert len(whole) == 12 and described == {"dataset": "photos"}


def test_a_model_that_numbers_its_classes_takes_those_of_the_data_and_says_so(
    tmp_path: Path, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(logger, "warning", warnings.append)
    file = str(parquet(tmp_path / "rows.parquet", ["fox", "dog", "cat"], [0, 2, 1]))
    assert load_images(file, ViTConfig(num_labels=3), processor)[0][:]["labels"] == [2, 0, 1]
    assert len(warnings) == 1 and "numbered as the data's are: 0 fox, 1 dog, 2 cat." in warnings[0]
    with pytest.raises(
        InputError, match=r"none of the model's classes: cat, dog, fox. The classes are LABEL_0, LABEL_1"
    ):
        load_images(file, ViTConfig(num_labels=4), processor)


def test_mistakes_about_the_data_are_named(tmp_path: Path, processor: Any) -> None:
    file = str(parquet(tmp_path / "rows.parquet", list(CLASSES), [0, 1]))
    for source, config, settings, message in (
        (file, named(), {"image_column": "img"}, "no column 'img'; its columns are id, image, label"),
        (file, named(), {"label_column": "kind"}, "no column 'kind'"),
        (file, named(["cat", "owl"]), {}, "evaluation data have labels .*: dog. The classes are cat, owl"),
        (file, named(num_channels=4), {}, "images of 4 channels"),
        (str(tmp_path / "gone.parquet"), named(), {}, "There is no file .*gone.parquet"),
        (__file__, named(), {}, "of an unknown kind; give a file that ends in .parquet"),
        ("user/data", named(), {}, "user/data cannot be loaded .*Give a data set of the Hub with its configuration"),
    ):
        with pytest.raises(InputError, match=message):
            load_images(source, config, processor, **settings)
