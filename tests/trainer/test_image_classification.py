"""`trainer/image_classification.py`, run as users run it, on a tiny ViT with random weights and images made here."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from PIL import Image as PILImage
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer

from hf_scorevi import BayesianModel, PosteriorConfig
from tests.pictures import CLASSES, picture, png
from tests.tiny_models import tiny_vit
from trainer import _classification, _cli, _data, _model, _sources, _training, image_classification
from trainer.image_classification import main

ROOT = Path(__file__).parents[2]
FIGURES = ("accuracy", "nll", "ece", "brier")


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the program says when it gives up."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code != 0
    return f"{stop.value.code} {capsys.readouterr().err}"


def parse(*argv: str) -> tuple[Any, ...]:
    dataclasses = (
        _model.ImageModelArguments,
        _data.DataArguments,
        _training.PosteriorArguments,
        image_classification.TrainingArguments,
    )
    return _cli.parse(dataclasses, argv, "", "")


# Whole runs


def test_an_image_folder_gives_a_posterior_and_its_calibration(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = main([*flags, "--max_steps", "20"])
    out = tmp_path / "out"
    assert metrics["eval_accuracy"] > 0.5
    assert {f"eval_{prefix}{name}" for prefix in ("", "mean_") for name in FIGURES} <= set(metrics)
    assert metrics["eval_samples"] == 12
    saved = json.loads((out / "all_results.json").read_text())
    assert saved["eval_nll"] == metrics["eval_nll"] and saved["train_samples"] == 24
    assert (out / "trainer_state.json").is_file()
    assert (out / "reliability.png").stat().st_size > 1000
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("predictive"))
    assert [float(value) for value in row.split()[1:]] == [round(metrics[f"eval_{name}"], 4) for name in FIGURES]
    assert BayesianModel.from_pretrained(out).posterior_config == PosteriorConfig()
    model = AutoModelForImageClassification.from_pretrained(out)
    assert model.config.id2label == dict(enumerate(CLASSES)) and model.dtype == torch.float32


def test_the_baseline_reports_the_same_figures_without_a_posterior(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = main([*flags, "--baseline", "adamw", "--max_steps", "20"])
    assert metrics["eval_accuracy"] > 0.5
    assert metrics["eval_nll"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
    assert "eval_mean_nll" not in metrics
    assert not list((tmp_path / "out").glob("posterior*"))
    assert (tmp_path / "out" / "reliability.png").is_file()
    assert "\nadamw " in capsys.readouterr().out


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_a_saved_run_can_be_evaluated_again(flags: list[str], tmp_path: Path, baseline: list[str]) -> None:
    flags += ["--lora_r", "2", *baseline]
    trained = main(flags)
    adapter = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert any("lora_A" in key for key in adapter) and any("classifier" in key for key in adapter)
    again = main([*flags, "--model_name_or_path", str(tmp_path / "out"), "--do_eval"])
    for name in FIGURES:
        assert again[f"eval_{name}"] == pytest.approx(trained[f"eval_{name}"], abs=1e-6)


def test_lora_is_bayesian_over_the_adapter_and_the_head_alone(flags: list[str], tmp_path: Path) -> None:
    main([*flags, "--lora_r", "2", "--lora_target_modules", "q_proj", "v_proj", "--do_train"])
    keys = set(load_file(tmp_path / "out" / "posterior.safetensors"))
    assert {key.split(".")[-2] for key in keys} == {"lora_A", "lora_B", "classifier"}
    assert len(keys) == 2 * 2 + 2


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    flags: list[str], tmp_path: Path, baseline: list[str]
) -> None:
    flags += [*baseline, "--save_strategy", "steps", "--save_steps", "2", "--no_random_crop", "--no_random_flip"]
    main([*flags, "--do_train"])
    whole = tmp_path / "out"
    shutil.copytree(whole / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2")
    main([*flags, "--do_train", "--output_dir", str(tmp_path / "resumed"), "--resume_from_checkpoint", "True"])
    for file in whole.glob("*.safetensors"):
        resumed = load_file(tmp_path / "resumed" / file.name)
        for key, value in load_file(file).items():
            torch.testing.assert_close(resumed[key], value, rtol=0, atol=0)


def test_the_best_checkpoint_of_the_baseline_is_loaded_whole(flags: list[str], tmp_path: Path) -> None:
    steps = ["--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2"]
    worst = ["--metric_for_best_model", "nll", "--greater_is_better", "True", "--load_best_model_at_end"]
    main([*flags, "--baseline", "adamw", *steps, *worst])
    best = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["best_model_checkpoint"]
    assert not best.endswith("checkpoint-6")  # else this test shows nothing
    expected = load_file(Path(best) / "model.safetensors")
    for key, value in load_file(tmp_path / "out" / "model.safetensors").items():
        assert torch.equal(value, expected[key]), key


def test_without_validation_data_a_part_is_held_out_and_found_again(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag for flag in flags if not flag.endswith(("--validation_dir", "val"))] + ["--train_val_split", "0.25"]
    trained = main(flags)
    assert trained["eval_samples"] == 6
    assert json.loads((tmp_path / "out" / "train_results.json").read_text())["train_samples"] == 18
    again = main([*flags, "--model_name_or_path", str(tmp_path / "out"), "--do_eval"])
    assert again["eval_nll"] == pytest.approx(trained["eval_nll"], abs=1e-6)
    assert "no data to evaluate on" in error_of(capsys, *flags, "--train_val_split", "0")


def test_a_model_without_processor_gets_one_of_its_size_and_channels(
    folders: Path, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(_model.logger, "warning", warnings.append)
    tiny_vit(image_size=16, patch_size=8, num_labels=2).save_pretrained(tmp_path / "gray")
    data = ["--train_dir", str(folders / "train"), "--max_train_samples", "8", "--max_eval_samples", "2"]
    metrics = main(["--model_name_or_path", str(tmp_path / "gray"), "--output_dir", str(tmp_path), *data, *quick])
    assert metrics["eval_samples"] == 2
    assert len(warnings) == 1 and "has no preprocessor_config.json: images are resized to 16x16" in warnings[0]
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert len(processor.image_mean) == 1 and processor.size == {"height": 16, "width": 16}


def test_a_run_is_pushed_with_its_origin(flags: list[str], vit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, Any] = {}
    monkeypatch.setattr(Trainer, "init_hf_repo", lambda self, token=None: None)
    monkeypatch.setattr(_training.PointTrainer, "push_to_hub", lambda self, **card: pushed.update(card))
    main([*flags, "--baseline", "adamw", "--push_to_hub", "--hub_strategy", "end", "--max_steps", "1", "--do_train"])
    assert pushed["tasks"] == "image-classification"
    assert "finetuned_from" not in pushed  # a local folder is not on the Hub
    model, data = _model.ImageModelArguments("user/model"), _data.DataArguments("user/data")
    card = _classification.card(image_classification.PROGRAM, model, data)
    assert (card["finetuned_from"], card["dataset"]) == ("user/model", "user/data")


# Files of rows


def rows(feature: Any, encode: Any, names: Any) -> Dataset:
    values = [{"picture": encode(picture(i % 3, i)), "kind": names[i % 3]} for i in range(12)]
    kind = ClassLabel(names=list(CLASSES)) if names == [0, 1, 2] else Value("string")
    return Dataset.from_list(values, features=Features({"picture": feature, "kind": kind}))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl"])
def test_a_file_of_rows(vit: str, quick: list[str], tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        rows(Image(), lambda pixels: {"bytes": png(pixels), "path": None}, [0, 1, 2]).to_parquet(file)
        expected = dict(enumerate(CLASSES))
    elif kind == "arrow":
        rows(Value("binary"), png, CLASSES).save_to_disk(tmp_path / "saved")
        shutil.move(next((tmp_path / "saved").glob("*.arrow")), file)
        expected = dict(enumerate(CLASSES))
    elif kind == "csv":  # paths relative to the file, numbers that do not start at 0
        lines = ["picture,kind"]
        for i in range(12):
            PILImage.fromarray(picture(i % 3, i)).save(tmp_path / f"{i}.png")
            lines.append(f"{i}.png,{10 - i % 3}")
        file.write_text("\n".join(lines))
        expected = {0: "8", 1: "9", 2: "10"}
    else:
        rows(Sequence(Sequence(Value("int64"))), lambda pixels: pixels[..., 0].tolist(), CLASSES).to_json(file)
        expected = dict(enumerate(CLASSES))
    columns = ["--image_column_name", "picture", "--label_column_name", "kind"]
    source = ["--train_file", str(file), "--validation_file", str(file)]
    metrics = main(["--model_name_or_path", vit, "--output_dir", str(tmp_path / "out"), *source, *columns, *quick])
    assert metrics["eval_samples"] == 12
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "out").config.id2label == expected


# Images


def test_training_images_are_augmented_and_others_are_the_processors_own(vit: str) -> None:
    processor = AutoImageProcessor.from_pretrained(vit)
    args = _data.DataArguments(dataset_name="x")
    batch = {"image": [PILImage.fromarray(picture(0, 1))] * 2, "label": ["cat", "fox"]}
    codes = {"cat": 0, "fox": 2}
    expected = processor(batch["image"], return_tensors="pt")["pixel_values"]
    plain = _data.ImageTransform(processor, args, codes, channels=3, train=False)(batch)
    assert torch.equal(plain["pixel_values"], expected) and plain["labels"] == [0, 2]
    random.seed(0)
    train = _data.ImageTransform(processor, args, codes, channels=3, train=True)(batch)["pixel_values"]
    assert train.shape == expected.shape
    assert not torch.equal(train[0], train[1])
    args = _data.DataArguments(dataset_name="x", random_crop=False)
    flips = _data.ImageTransform(processor, args, codes, channels=3, train=True)({
        "image": batch["image"] * 8, "label": ["cat"] * 16
    })["pixel_values"]  # fmt: skip
    assert {torch.allclose(image, expected[0], atol=1e-6) for image in flips} == {True, False}
    assert all(
        torch.allclose(image, expected[0], atol=1e-6) or torch.allclose(image, expected[0].flip(-1), atol=1e-6)
        for image in flips
    )


# The command line


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_flags_override_a_recipe(tmp_path: Path, suffix: str) -> None:
    recipe = tmp_path / f"recipe.{suffix}"
    values: dict[str, Any] = {
        "dataset_name": "user/data",
        "learning_rate": 1e-5,  # JSON writes 1e-05, which is text to YAML's own rules
        "num_train_epochs": 2,
        "save_strategy": False,  # what YAML reads an unquoted no as
        "random_flip": False,
        "exclude": "classifier",
        "prior_std": 0.5,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "lora_r": None,
    }
    recipe.write_text(json.dumps(values))  # JSON is YAML too
    model, data, posterior, training = parse(str(recipe), "--num_train_epochs", "7", "--temperature", "0.1")
    assert (training.learning_rate, training.num_train_epochs, training.save_strategy) == (1e-5, 7, "no")
    assert training.lr_scheduler_kwargs == {"min_lr": 1e-5}
    assert (data.dataset_name, data.random_flip, data.random_crop, model.lora_r) == ("user/data", False, True, None)
    assert posterior.config() == PosteriorConfig(exclude=["classifier"], prior_std=0.5, temperature=0.1)


def test_a_recipe_is_run(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("eval_num_samples: 3\nfamily: diagonal\ntarget: [classifier]\n")
    main([str(tmp_path / "recipe.yaml"), *flags, "--family", "isotropic", "--do_train"])
    stored = json.loads((tmp_path / "out" / "posterior_config.json").read_text())
    assert stored["posterior"]["family"] == "isotropic"
    assert stored["weights"] == ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("recipe", ["vit_b16", "vit_b16_lora", "resnet50"])
def test_the_recipes_that_come_along_are_valid(recipe: str) -> None:
    model, data, posterior, training = parse(str(ROOT / "trainer" / "recipes" / f"{recipe}.yaml"), "--use_cpu")
    assert "/" in model.model_name_or_path and data.dataset_name == "timm/oxford-iiit-pet"
    assert 0 < training.learning_rate < 1e-2 and posterior.config() == PosteriorConfig()
    assert (model.lora_r is not None) == ("lora" in recipe)
    assert training.do_train and training.do_eval


@pytest.mark.parametrize(("metric", "greater"), [("accuracy", True), ("nll", False), ("eval_mean_ece", False)])
def test_the_best_checkpoint_is_the_one_of_the_lowest_error(metric: str, greater: bool) -> None:
    flags = ["--dataset_name", "x", "--use_cpu", "--load_best_model_at_end", "--metric_for_best_model", metric]
    training = parse(*flags, "--eval_strategy", "epoch", "--save_strategy", "epoch")[-1]
    assert training.greater_is_better is greater


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown keys: learning_rat (close to learning_rat: learning_rate"),
        ("num_train_epochs: many", "invalid float value: 'many'"),
        ("seed: 2.5", "argument --seed: invalid int value: '2.5'"),
        ("baseline: sgd", "baseline: sgd; choose from adamw"),
        ("[1, 2]", "must be a mapping"),
        ("a: b: c", "cannot be read"),
    ],
)
def test_a_wrong_recipe_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    assert message in error_of(capsys, str(tmp_path / "recipe.yaml"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--train_file", "rows.csv"], "are different sources of data: give one of them"),
        (["--image_column_name", "img"], "no column 'img'; their columns are image, label. Name the right one with"),
        (["--label_column_name", "kind"], "no column 'kind'"),
        (["--train_dir", "nowhere"], "no folder 'nowhere'"),
        (["--baseline", "sgd"], "--baseline: invalid choice: 'sgd' (choose from 'adamw')"),
        (["--family", "round"], "Unknown posterior family 'round'"),
        (["--temperature", "warm"], "temperature must be a positive number or 'auto'"),
        (["--learning_rte", "1"], "--learning_rte"),
        (["--lora_target_modules", "q_proj"], "give lora_r too"),
        (["--max_train_samples", "0"], "max_train_samples must be at least 1"),
        (["--do_eval"], "is no folder with a posterior"),
        (["--resume_from_checkpoint", "True"], "holds no checkpoint to resume from"),
        (["--resume_from_checkpoint", "gone"], "no checkpoint 'gone'"),
    ],
)
def test_mistakes_are_named(
    flags: list[str], capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert message in error_of(capsys, *flags, *extra)


def test_mistakes_about_the_data_are_named(
    vit: str, folders: Path, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model_name_or_path", vit, "--output_dir", str(tmp_path / "out"), *quick]
    assert "no data: give --dataset_name" in error_of(capsys, *flags)
    assert "no recipe 'gone.yaml'" in error_of(capsys, "gone.yaml", *flags)
    assert "not 'train'" in error_of(capsys, "train", *flags)
    assert "no data to train on" in error_of(capsys, *flags, "--validation_dir", str(folders / "val"))
    assert "has no labels" in error_of(capsys, *flags, "--train_dir", str(folders / "train" / "cat"))
    assert "unknown kind" in error_of(capsys, *flags, "--train_file", "rows.txt")
    assert "no file 'rows.csv'" in error_of(capsys, *flags, "--train_file", "rows.csv")
    (tmp_path / "one.csv").write_text("image,label\na.png,cat\nb.png,cat")
    assert "at least two" in error_of(capsys, *flags, "--train_file", str(tmp_path / "one.csv"))
    (tmp_path / "float.csv").write_text("image,label\na.png,0.5\nb.png,0.7")
    assert "holds float64" in error_of(capsys, *flags, "--train_file", str(tmp_path / "float.csv"))
    (tmp_path / "two.csv").write_text("image,label\na.png,cat\nb.png,dog")
    (tmp_path / "new.csv").write_text("image,label\na.png,cat\nb.png,owl")
    files = ["--train_file", str(tmp_path / "two.csv"), "--validation_file", str(tmp_path / "new.csv")]
    message = error_of(capsys, *flags, *files)
    assert (
        "validation data have labels that are none of the model's classes: owl. The classes are cat, dog." in message
    )


def test_a_dataset_needs_its_splits(
    vit: str,
    quick: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = rows(Image(), lambda pixels: {"bytes": png(pixels), "path": None}, [0, 1, 2])
    splits = datasets.DatasetDict(fit=part, test=part.select(range(6)))
    monkeypatch.setattr(_sources, "load_dataset", lambda name, config, token: splits)
    columns = ["--image_column_name", "picture", "--label_column_name", "kind"]
    flags = [
        "--model_name_or_path",
        vit,
        "--output_dir",
        str(tmp_path),
        "--dataset_name",
        "user/data",
        *columns,
        *quick,
    ]
    assert "user/data has no split 'train'; it has fit, test." in error_of(capsys, *flags)
    flags += ["--train_split_name", "fit"]
    assert "no split 'dev'" in error_of(capsys, *flags, "--validation_split_name", "dev")
    assert main(flags)["eval_samples"] == 6  # test, as there is no validation
