"""`trainer/text_classification.py`, run as users run it, on a tiny BERT with random weights and texts made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from hf_scorevi import BayesianModel, PosteriorConfig
from tests.text import SPECIAL, WORDS, tiny_bert, tokenizer
from trainer import _cli, _model, _text_data, _training, text_classification
from trainer.text_classification import main

ROOT = Path(__file__).parents[2]
FIGURES = ("accuracy", "nll", "ece", "brier")
LONG = ["--max_steps", "100", "--per_device_train_batch_size", "27"]  # enough to learn the texts
FILMS = [f"the {thing} was {word} ." for thing in ("film", "book", "lisbon") for word in ("good", "bad", "fine")]


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the program says when it gives up."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code != 0
    return f"{stop.value.code} {capsys.readouterr().err}"


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """For other classes than those of the texts, with its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    tiny_bert(num_labels=2, id2label=None, label2id=None, initializer_range=0.3).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def flags(bert: str, tmp_path: Path, quick: list[str]) -> list[str]:
    """A short run on texts whose last word is their class."""
    texts = FILMS * 3
    rows = pd.DataFrame({"text": texts, "label": [text.split()[-2] for text in texts]})
    for name in ("train", "val"):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    data = ["--train_file", str(tmp_path / "train.csv"), "--validation_file", str(tmp_path / "val.csv")]
    return ["--model_name_or_path", bert, "--output_dir", str(tmp_path / "out"), *data, *quick]


def test_texts_give_a_posterior_and_its_calibration(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = main([*flags, *LONG])
    out = tmp_path / "out"
    assert metrics["eval_accuracy"] > 0.8 and metrics["eval_samples"] == 27
    assert {f"eval_{prefix}{name}" for prefix in ("", "mean_") for name in FIGURES} <= set(metrics)
    assert (out / "reliability.png").stat().st_size > 1000
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("predictive"))
    assert [float(value) for value in row.split()[1:]] == [round(metrics[f"eval_{name}"], 4) for name in FIGURES]
    model, words = BayesianModel.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.posterior_config == PosteriorConfig()
    assert list(model.config.id2label.values()) == ["bad", "fine", "good"]  # type: ignore[union-attr]
    assert AutoModelForSequenceClassification.from_pretrained(out).dtype == torch.float32
    probs = model.predict(**words(FILMS, return_tensors="pt", padding=True), num_samples=4, seed=0).probs
    names = ["bad", "fine", "good"]
    assert sum(names[int(p.argmax())] in text for p, text in zip(probs, FILMS, strict=True)) >= 7


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_a_saved_adapter_can_be_evaluated_again(flags: list[str], tmp_path: Path, baseline: list[str]) -> None:
    flags = [*flags, "--lora_r", "2", "--lora_target_modules", "query", *baseline]
    trained = main(flags)
    adapter = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert any("lora_A" in key for key in adapter) and any("classifier" in key for key in adapter)
    again = main([*flags, "--model_name_or_path", str(tmp_path / "out"), "--do_eval"])
    for name in FIGURES:
        assert again[f"eval_{name}"] == pytest.approx(trained[f"eval_{name}"], abs=1e-6)


@pytest.mark.parametrize("baseline", [[], ["--baseline", "adamw"]])
def test_pairs_and_numbers(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: list[str]
) -> None:
    stars = {"good": 1.0, "fine": 0.0, "bad": -1.0}
    pairs = [(FILMS[i], FILMS[-i]) for i in range(9)] * 3
    rows = pd.DataFrame(pairs, columns=["one", "two"]).assign(stars=[stars[one.split()[-2]] for one, _ in pairs])
    for name in ("train", "val"):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    columns = ["--text_column_name", "one", "--text_pair_column_name", "two", "--label_column_name", "stars"]
    metrics = main([*flags, *columns, *baseline, *LONG])
    assert metrics["eval_mse"] < 2 / 3  # the labels' variance
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = next(line for line in table if line and line[0] == ("adamw" if baseline else "predictive"))
    assert shown[1] == f"{metrics['eval_mse']:.4f}" and (shown[3] == "-") is bool(baseline)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert (model.config.problem_type, model.config.id2label) == ("regression", {0: "stars"})
    again = main([*flags, *columns, *baseline, "--model_name_or_path", str(tmp_path / "out"), "--do_eval"])
    assert again["eval_mse"] == pytest.approx(metrics["eval_mse"], rel=1e-4)
    data = _text_data.DataArguments(train_file="x", label_column_name="n", regression=True)
    whole = Dataset.from_dict({"text": ["a", "b"], "n": [1, 2]})
    assert data.class_names(whole) == ["n"]  # whole numbers on request
    assert _text_data.DataArguments(train_file="x", label_column_name="n").class_names(whole) == ["1", "2"]


def test_a_model_without_a_token_to_pad_with_takes_its_end_of_text(
    flags: list[str], tmp_path: Path, quick: list[str]
) -> None:
    torch.manual_seed(0)
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config = LlamaConfig(vocab_size=len(SPECIAL) + len(WORDS), num_key_value_heads=1, pad_token_id=None, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "llama")
    words = tokenizer(eos_token="[SEP]")
    words.pad_token = None
    words.save_pretrained(tmp_path / "llama")
    metrics = main([*flags, "--model_name_or_path", str(tmp_path / "llama"), "--max_steps", "2"])
    assert metrics["eval_samples"] == 27
    assert BayesianModel.from_pretrained(tmp_path / "out").config.pad_token_id == 3


@pytest.mark.parametrize("recipe", ["bert_base", "bert_base_lora"])
def test_the_recipes_that_come_along_are_valid(recipe: str) -> None:
    arguments = (_training.PosteriorArguments, text_classification.TrainingArguments)
    dataclasses = (_model.TextModelArguments, _text_data.DataArguments, *arguments)
    path = str(ROOT / "trainer" / "recipes" / f"{recipe}.yaml")
    model, data, posterior, training = _cli.parse(dataclasses, [path, "--use_cpu"], "", "")
    assert (model.model_name_or_path, data.dataset_config_name) == ("google-bert/bert-base-uncased", "sst2")
    assert 0 < training.learning_rate < 1e-2 and posterior.config() == PosteriorConfig()
    assert (model.lora_r is not None) == ("lora" in recipe)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--text_column_name", "words"], "has no column 'words'; its columns are text, label"),
        (["--text_pair_column_name", "words"], "Name the right one with --text_pair_column_name"),
        (["--text_pair_column_name", "text"], "must be in columns of their own"),
        (["--label_column_name", "kind"], "no column 'kind'"),
        (["--dataset_name", "user/data"], "are different sources of data: give one of them"),
        (["--max_length", "0"], "max_length must be at least 1"),
        (["--regression"], "is no number. Name the right column with --label_column_name"),
        (["--do_eval"], "is no folder with a posterior"),
    ],
)
def test_mistakes_are_named(
    flags: list[str], capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert message in error_of(capsys, *flags, *extra)


def test_it_is_a_program_of_its_own(flags: list[str], tmp_path: Path) -> None:
    program = str(ROOT / "trainer" / "text_classification.py")
    done = subprocess.run([sys.executable, program, *flags], capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "3 classes; 27 texts to train on, 27 to evaluate on" in done.stdout
    assert json.loads((tmp_path / "out" / "eval_results.json").read_text())["eval_samples"] == 27
