import ast
import json
import re
import sys
import time

import numpy as np
import pytest
import torch
import transformers
import yaml
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import ViTImageProcessorPil

from hf_scorevi import PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import (
    CALIBRATION_NAME,
    POSTERIOR_CONFIG_NAME,
    CardMetadata,
    Evaluation,
    StoredPosterior,
    make_card,
    save_posterior,
    write_card,
    write_evaluations,
)
from hf_scorevi.hub.card_merging import merge_cards
from hf_scorevi.metrics import ReliabilityBins, classification_metrics, reliability_bins
from hf_scorevi.posterior import Posterior, select_parameters
from tests.sounds import extractor, sound, tiny_ast, wav
from tests.text import bert_config, tiny_bert, tiny_tagger, tokenizer
from tests.tiny_models import tiny_vit

NAMES = {
    "accuracy": "accuracy", "nll": "NLL", "ece": "ECE", "classwise_ece": "class-wise ECE",
    "adaptive_ece": "adaptive ECE", "brier": "Brier", "mse": "MSE",
}  # fmt: skip
SECTIONS = ["How to use it", "Calibration", "The posterior", "Training", "Limits", "Citation"]
TRAINING = {
    "base_model": "user/base", "dataset": "user/data", "train_examples": 12345, "epochs": 3.0, "learning_rate": 1e-4,
    "optimizer": "adamw_torch_fused", "mixed_precision": None,
}  # fmt: skip
HEAD = ["classifier"]  # few tensors to draw
METHOD = {
    "objective": "score",
    "update": "closed_form",
    "antithetic": False,
    "inner_steps": 10,
    "proximal_weight": 2.0,
}


def evaluation(dataset="user/data", seed=0, **values) -> Evaluation:
    """Figures that really are those of some predictions."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, 60)
    tables = {row: random.dirichlet([1, 1, 1], 60) for row in ("predictive", "mean")}
    figures = {row: classification_metrics(table, labels) for row, table in tables.items()}
    for own in figures.values():
        del own["ece_bins"]
    after = [
        {"num_samples": n} | {k: figures["mean"][k] / n for k in ("accuracy", "nll", "ece", "brier")} for n in (1, 2)
    ]
    bins = {row: reliability_bins(table, labels) for row, table in tables.items()}
    settings = {"by_num_samples": after, "reliability": bins, "split": "test"}
    return Evaluation(dataset, 60, 2, seed, figures, **(settings | values))


def write(folder, model=None, config=None, stored=None, evaluations=()):
    """A checkpoint with what its training tells."""
    model, config = model or tiny_vit(), config or PosteriorConfig(target=HEAD)
    model.save_pretrained(folder)
    posterior = Posterior.initialise(select_parameters(model, config.target, config.exclude), config)
    settings = {"method": METHOD, "training": TRAINING} | (stored or {})
    save_posterior(folder, model, posterior, StoredPosterior(config, 24, **({"temperature": 0.1} | settings)))
    write_evaluations(folder, evaluations)
    return folder


def edit(folder, **values):
    path = folder / POSTERIOR_CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def adapter():
    return get_peft_model(tiny_vit(), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))


def card_of(folder, **kwargs) -> ModelCard:
    """The card, after a look at how it is written."""
    text = make_card(folder, **kwargs)
    assert not re.findall(r"[ \t]+$", text, re.MULTILINE) and "\n\n\n" not in text
    assert text.endswith("-->\n") and not re.search(r"\{\{|\{%|%\}|\}\}|None|nan", text)
    assert re.findall("^<!-- hf_scorevi: (begin|end)", text, re.MULTILINE) == ["begin", "end"]
    for block in code(text):
        ast.parse(block)
    for table in tables(text):
        assert len({len(row) for row in table}) == 1 and len(table) > 1
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    return ModelCard(text)


def code(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def tables(text):
    """Lists of rows, lists of cells, without the lines below the headings."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for row in table if set("".join(row)) != {"-"}] for table in rows]


def settings(text):
    """The rows of the tables of settings."""
    return {row[0]: row[1] for table in tables(text) if table[0] == ["setting", "value"] for row in table[1:]}


def headings(text):
    return re.findall(r"^## (.*)", text, re.MULTILINE)


# Figures


def test_a_card_of_every_family_has_the_figures_in_its_tables_and_in_its_metadata(saved):
    _, posterior, folder = saved
    measured = [evaluation(), evaluation("my photos", seed=1, split=None, num_bins=10)]
    write_evaluations(folder, measured)
    card = card_of(folder, repo_id="me/tiny")
    assert headings(card.text) == SECTIONS
    found = tables(card.text)
    for own, (table, draws) in zip(measured, (found[0:2], found[2:4]), strict=True):
        assert table[0][1:] == [NAMES[metric] for metric in NAMES if metric in own.metrics["mean"]]
        for row, cells in zip(("predictive", "mean"), table[1:], strict=True):
            assert cells[1:] == [f"{own.metrics[row][metric]:.4f}" for metric in NAMES if metric != "mse"]
        assert draws[0] == ["draws", "accuracy", "NLL", "ECE", "Brier"]
        assert draws[1:] == [
            [str(after["num_samples"]), *(f"{after[metric]:.4f}" for metric in ("accuracy", "nll", "ece", "brier"))]
            for after in own.by_num_samples
        ]
    results = {
        (r.dataset_name, r.metric_args["weights"], r.metric_type): r.metric_value for r in card.data.eval_results
    }
    assert results == {
        (own.title, row, metric): value
        for own in measured
        for row, figures in own.metrics.items()
        for metric, value in figures.items()
    }
    assert {(r.dataset_type, r.dataset_split, r.metric_args.get("num_bins", 0)) for r in card.data.eval_results} == {
        ("user/data", "test", 0), ("user/data", "test", 15), ("unknown", None, 0), ("unknown", None, 10)
    }  # fmt: skip
    assert settings(card.text)["family"].startswith(f"{posterior.family.name}: ")
    assert settings(card.text)["Bayesian weights"].startswith(f"{posterior.num_weights:,} of ")
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card.text)
    assert pictures == ["reliability.png", "reliability-2.png", "posterior.png"]


def test_results_on_several_data_of_no_name_on_the_hub_stay_apart(tmp_path):
    """The Hub's client would put results on data of one type together, under the first name."""
    measured = [evaluation("photos", split=None), evaluation("scans", seed=1, split=None)]
    results = card_of(write(tmp_path, evaluations=measured)).data.eval_results
    for own in measured:
        (accuracy,) = [
            r.metric_value for r in results
            if (r.dataset_name, r.metric_type, r.metric_args["weights"]) == (own.title, "accuracy", "mean")
        ]  # fmt: skip
        assert accuracy == own.metrics["mean"]["accuracy"]


def test_a_card_without_figures_says_so(saved):
    _, _, folder = saved
    card = card_of(folder, repo_id="me/tiny")
    assert "Not measured yet. `hf-scorevi evaluate me/tiny --dataset … --update-card` does it." in card.text
    assert "has not been measured" in card.text and "Not recorded." in card.text
    assert card.data.eval_results is None and card.data.to_dict().get("metrics") is None
    assert re.findall(r"!\[.*?\]\((.*?)\)", card.text) == ["posterior.png"]


def test_the_card_of_a_regression(tmp_path):
    figures = {"predictive": {"mse": 0.25}, "mean": {"mse": 0.5}}
    write(
        tmp_path,
        tiny_vit(num_labels=1),
        PosteriorConfig(noise_variance=0.5),
        {"likelihood": {"kind": "gaussian", "loss_scale": 1.0}},
        [Evaluation("user/data", 60, 16, 0, figures)],
    )
    card = card_of(tmp_path, repo_id="me/tiny")
    assert headings(card.text)[1] == "Evaluation" and "ECE" not in card.text and "Brier" not in card.text
    assert tables(card.text)[0] == [
        ["", "MSE"],
        ["**posterior predictive**", "0.2500"],
        ["mean weights alone", "0.5000"],
    ]
    assert [(r.metric_type, r.metric_value, r.task_type) for r in card.data.eval_results] == [
        ("mse", 0.25, "other"), ("mse", 0.5, "other")
    ]  # fmt: skip
    assert card.data.pipeline_tag is None and "pipeline" not in card.text and ".probs" not in card.text
    assert settings(card.text)["noise variance"] == "0.5"


def test_a_figure_that_is_not_finite_is_no_result(tmp_path):
    figures = {"predictive": {"accuracy": 0.5, "nll": float("inf")}, "mean": {"accuracy": 0.5}}
    card = card_of(write(tmp_path, evaluations=[Evaluation("user/data", 60, 16, 0, figures)]))
    assert tables(card.text)[0][1:] == [
        ["**posterior predictive**", "0.5000", "not finite"], ["mean weights alone", "0.5000", "–"]
    ]  # fmt: skip
    assert [r.metric_type for r in card.data.eval_results] == ["accuracy", "accuracy"]


# What the files tell


def test_settings_of_the_run_are_told_and_those_that_say_nothing_are_not(tmp_path):
    found = settings(card_of(write(tmp_path)).text)
    told = {"dataset": "user/data", "train examples": "12,345", "epochs": "3", "learning rate": "0.0001"}
    assert told.items() <= found.items()
    assert found["optimizer"] == "adamw_torch_fused" and found["proximal weight"] == "2"
    assert not {"base model", "mixed precision", "antithetic", "inner steps"} & set(found)
    assert found["terms of the likelihood (N)"] == "24" and found["temperature (T)"] == "0.1"
    edit(tmp_path, method=METHOD | {"update": "gradient", "objective": "elbo"})
    card = card_of(tmp_path)
    assert settings(card.text)["inner steps"] == "10" and settings(card.text)["antithetic"] == "no"
    assert "evidence lower bound" in card.text and "score-matching" not in card.text.split("## Citation")[0]


def test_metadata_are_those_of_the_run_unless_others_are_given(tmp_path):
    write(tmp_path)
    data = card_of(tmp_path).data
    assert (data.base_model, data.datasets, data.library_name) == ("user/base", ["user/data"], "transformers")
    assert data.pipeline_tag == "image-classification" and data.license is None
    given = CardMetadata(
        name="A name", license="mit", language="en", base_model="me/base", datasets="me/data",
        tags=["vision", "bayesian"], pipeline_tag="image-feature-extraction",
    )  # fmt: skip
    card = card_of(tmp_path, repo_id="me/tiny", metadata=given)
    assert (card.data.base_model, card.data.datasets, card.data.license) == ("me/base", ["me/data"], "mit")
    assert (card.data.language, card.data.pipeline_tag) == ("en", "image-feature-extraction")
    assert card.data.tags == ["hf_scorevi", "bayesian", "uncertainty", "calibration", "vision"]
    assert card.text.startswith("\n# A name\n") and settings(card.text)["dataset"] == "me/data"
    assert "fine-tuned from [me/base](https://huggingface.co/me/base)" in card.text


def test_folders_of_the_author_s_machine_are_left_out_with_a_warning(tmp_path, caplog, monkeypatch):
    folder = write(tmp_path / "run", stored={"training": TRAINING | {"base_model": "/home/me/base"}})
    write_evaluations(folder, [evaluation("/home/me/photos")])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    given = CardMetadata(base_model=str(tmp_path), datasets=["/home/me/photos", "mine", "user/data"])
    card = card_of(folder, metadata=given)
    assert "/home/me" not in card.content and str(tmp_path) not in card.content
    assert card.data.base_model is None and card.data.datasets == ["user/data"]
    assert {r.dataset_name for r in card.data.eval_results} == {"photos (test)"}
    for name in (str(tmp_path), "/home/me/photos", "mine"):
        assert f"{name!r} is no name on the Hub" in caplog.text


@pytest.mark.parametrize(
    ("temperature", "told"), [(1.0, None), (0.1, "counts 10 times (temperature 0.1)"), (4, "counts 0.25 times")]
)
def test_tempering_is_told(tmp_path, temperature, told):
    text = " ".join(card_of(write(tmp_path, stored={"temperature": temperature})).text.split())
    assert ("tempered" in text) == (told is not None)
    if told:
        assert told in text and ("narrower" if temperature < 1 else "wider") in text


def test_a_posterior_over_some_of_the_weights_is_told_apart(tmp_path):
    assert "Its weights are not single values" in card_of(write(tmp_path, config=PosteriorConfig())).text
    config = PosteriorConfig(exclude=["classifier"], family="low_rank", rank=3)
    text = card_of(write(tmp_path, config=config)).text
    assert "Some of its weights are not" in text
    assert settings(text)["rank"] == "3" and "(98." in settings(text)["Bayesian weights"]
    assert "different tensors independent of each other" in text


def test_a_checkpoint_of_format_1_1_has_a_card(tmp_path):
    path = write(tmp_path) / POSTERIOR_CONFIG_NAME
    contents = json.loads(path.read_text())
    for key in ("posterior_sha256", "summary", "training", "num_parameters"):
        del contents[key]
    path.write_text(json.dumps(contents | {"format_version": "1.1"}))
    text = card_of(tmp_path).text
    assert "Its weights are not" in text and "](posterior.png)" not in text
    assert settings(text)["Bayesian weights"] == f"{contents['num_weights']}"


def test_σ_relative_to_the_weights_is_the_median_over_tensors(tmp_path):
    summary = {"a": [0.1, 1.0, 5], "b": [3.0, 1.0, 1], "c": [1.0, 2.0, 9], "zero": [1.0, 0.0, 3]}
    edit(write(tmp_path), summary=summary)
    assert settings(card_of(tmp_path).text)["σ relative to the weights, median over tensors"] == "0.5"
    edit(tmp_path, summary={"zero": [1.0, 0.0, 3]})
    text = card_of(tmp_path).text
    assert "σ relative" not in text and "](posterior.png)" not in text and not (tmp_path / "posterior.png").exists()


# How to use it


def test_the_code_of_an_image_classifier_s_card_runs(tmp_path, monkeypatch):
    folder = write(tmp_path / "tiny", tiny_vit(num_channels=3), evaluations=[evaluation()])
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 10)).save("picture.jpg")
    piped, tensors, plain = code(card_of(folder, repo_id="tiny").text)
    names: dict = {}
    exec(piped, names)
    exec(tensors, names)
    assert names["out"].samples.shape == (2, 1, 3) and names["out"].probs.sum().item() == pytest.approx(1)
    assert names["found"]["entropy"] == pytest.approx(names["out"].entropy.item(), rel=1e-4)
    exec(plain, names)
    assert len(names["pipe"]("picture.jpg")) == 3


def bert(kind, **kwargs):
    torch.manual_seed(0)
    return getattr(transformers, f"BertFor{kind}")(bert_config(**kwargs))


def tiny_gpt2():
    sizes = {"vocab_size": 19, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=2, eos_token_id=3))


def tiny_segformer():
    torch.manual_seed(0)
    sizes = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
    config = transformers.SegformerConfig(**sizes, num_labels=3)
    return transformers.SegformerForSemanticSegmentation(config)


# By the Hub's task: a model with what makes its inputs, the shape of the probabilities, what they are of, and the
# pipelines on its card.
TASKS = {
    "audio-classification": (tiny_ast, extractor, (1, 3), "the classes", "both"),
    "fill-mask": (lambda: bert("MaskedLM"), tokenizer, (1, 5, 19), "the token in each place", "plain"),
    "image-segmentation": (
        tiny_segformer,
        lambda: ViTImageProcessorPil(size={"height": 32, "width": 32}),
        (1, 3, 8, 8),
        "the classes of each pixel",
        "plain",
    ),
    "multiple-choice": (lambda: bert("MultipleChoice"), tokenizer, (1, 2), "the choices", "none"),
    "question-answering": (lambda: bert("QuestionAnswering", num_labels=2), tokenizer, (1, 12), None, "none"),
    "text-classification": (tiny_bert, tokenizer, (1, 3), "the classes", "both"),
    "text-generation": (tiny_gpt2, tokenizer, (1, 5, 19), "the token that follows each", "plain"),
    "token-classification": (tiny_tagger, tokenizer, (1, 5, 3), "the classes of each token", "both"),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_code_of_each_task_s_card_runs(tmp_path, monkeypatch, task):
    make, processor, shape, predicted, pipelines = TASKS[task]
    folder = write(tmp_path / "tiny", make(), PosteriorConfig())
    processor().save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 10)).save("picture.jpg")
    (tmp_path / "recording.wav").write_bytes(wav(sound(0, 0)))
    card = card_of(folder, repo_id="tiny")
    assert card.data.pipeline_tag == task
    *piped, tensors, plain = code(card.text)
    names: dict = {"samples_given": sound(0, 0)}
    exec(re.sub(r"^samples = \.\.\..*", "samples = samples_given", tensors, flags=re.MULTILINE), names)
    if predicted is None:
        assert names["out"].start.probs.shape == names["out"].end.probs.shape == shape
    else:
        assert names["out"].probs.shape == shape and f"# probabilities of {predicted}" in tensors
    assert len(piped) == (pipelines == "both")
    for block in piped:
        exec(block, names)
        found = names["found"] if isinstance(names["found"], list) else [names["found"]]
        assert found and all(own["entropy"] > 0 for own in found)
    exec(plain, names)
    if pipelines == "none":
        assert type(names["model"]) is type(make())
    else:
        assert names["pipe"].task == task


@pytest.mark.parametrize(
    ("name", "tag", "told"),
    [
        ("BertForNextSentencePrediction", None, "probabilities of the classes"),
        ("LayoutLMForQuestionAnswering", "document-question-answering", "out.start.probs"),
        ("LlavaForConditionalGeneration", "image-text-to-text", "probabilities of each token of the output"),
        ("PatchTSTForClassification", None, "probabilities of the classes"),
        ("PatchTSTForRegression", None, "its standard deviation"),
        ("T5ForConditionalGeneration", "text2text-generation", "with decoder_input_ids"),
        ("VideoMAEForVideoClassification", "video-classification", "probabilities of the classes"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition", "with decoder_input_ids"),
    ],
)
def test_inputs_of_other_tasks_are_left_to_the_reader(tmp_path, name, tag, told):
    write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": [name]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for file in ("tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / file).write_text("{}")
    card = card_of(tmp_path)
    assert card.data.pipeline_tag == tag and told in card.text
    assert "inputs = ..." in card.text and "pipeline(" not in card.text and "Auto" not in card.text
    assert f"from transformers import {name}" in card.text


def test_an_adapter_of_a_language_model_has_a_base_without_classes(tmp_path):
    torch.manual_seed(0)
    model = get_peft_model(tiny_gpt2(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    _, plain = code(card_of(write(tmp_path, model, PosteriorConfig())).text)
    assert 'GPT2LMHeadModel.from_pretrained("user/base")' in plain


def test_figures_of_tokens_say_how_many_there_were(tmp_path):
    figures = {"predictive": {"accuracy": 0.5, "nll": 0.7, "perplexity": 2.0, "ece": 0.1}, "mean": {"perplexity": 3.0}}
    own = Evaluation("user/data", 678, 16, 0, figures, num_terms=12345)
    card = card_of(write(tmp_path, tiny_tagger(), evaluations=[own]))
    text = " ".join(card.text.split())
    assert "12,345 tokens of 678 examples; 16 draws" in text and "NLL is in nats per token" in text
    assert "The perplexity is the exponential of the NLL. Lower is better for all but accuracy." in text
    assert "Figures are means over all tokens that have a label" in text
    assert tables(card.text)[0][0] == ["", "accuracy", "NLL", "perplexity", "ECE"]
    assert {(r.metric_type, r.metric_value) for r in card.data.eval_results if r.metric_type == "perplexity"} == {
        ("perplexity", 2.0), ("perplexity", 3.0)
    }  # fmt: skip
    assert "perplexity" in card.data.to_dict()["metrics"]
    text = " ".join(card_of(write(tmp_path, tiny_vit(), evaluations=[evaluation()])).text.split())
    assert "60 examples; 2 draws" in text and "nats per example" in text and "perplexity" not in text


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_the_code_for_other_outputs_than_classes_runs(tmp_path, monkeypatch, problem):
    kind = "gaussian" if problem == "regression" else "nll"
    config = PosteriorConfig(target=HEAD, noise_variance=1.0 if problem == "regression" else None)
    write(tmp_path / "tiny", tiny_vit(problem_type=problem), config, {"likelihood": {"kind": kind}})
    monkeypatch.chdir(tmp_path)
    bayesian, plain = code(card_of(tmp_path / "tiny", repo_id="tiny").text)
    names: dict = {"pixels": torch.zeros(5, 1, 8, 8)}
    line = next(line for line in bayesian.splitlines() if line.startswith("inputs = ..."))
    exec(bayesian.replace(line, "inputs = {'pixel_values': pixels}"), names)
    assert (names["out"].mean if problem == "regression" else names["out"].probs).shape == (5, 3)
    exec(plain, names)
    assert names["model"].config.problem_type == problem


def test_the_code_of_an_adapter_s_card_runs(tmp_path, monkeypatch):
    write(tmp_path / "tiny", adapter(), stored={"training": {}})
    monkeypatch.chdir(tmp_path)
    text = card_of(tmp_path / "tiny", repo_id="tiny").text
    assert "The weights of its adapter are not" in text and "- PEFT " in text
    for block in code(text):
        block = re.sub(r"^base = \.\.\..*", "base = make()", block, flags=re.MULTILINE)
        block = re.sub(r"^inputs = \.\.\..*", "inputs = {'pixel_values': pixels}", block, flags=re.MULTILINE)
        names = {"make": tiny_vit, "pixels": torch.zeros(5, 1, 8, 8)}
        exec(block, names)
        assert type(names["model"]).__name__ in ("BayesianModel", "PeftModel")


def test_an_adapter_is_put_on_the_base_that_it_names(tmp_path):
    card = card_of(write(tmp_path, adapter()), repo_id="me/tiny")
    assert (card.data.library_name, card.data.base_model) == ("peft", "user/base")
    bayesian, plain = code(card.text)
    assert 'BayesianModel.from_pretrained("me/tiny")' in bayesian
    assert 'base = ViTForImageClassification.from_pretrained("user/base", num_labels=3)' in plain
    assert 'PeftModel.from_pretrained(base, "me/tiny")' in plain


def test_a_text_classifier_gets_its_tokenizer(tmp_path):
    write(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "Tokenizer" not in card_of(tmp_path).text
    (tmp_path / "tokenizer_config.json").write_text("{}")
    card = card_of(tmp_path, repo_id="me/tiny")
    assert 'processor = AutoTokenizer.from_pretrained("me/tiny")' in card.text
    assert 'pipeline("bayesian-text-classification", model="me/tiny")' in card.text
    assert 'pipeline("text-classification", model="me/tiny")' in card.text
    assert card.data.pipeline_tag == "text-classification"


@pytest.mark.parametrize("name", ['my "model" (1)', "a|b<c>", "vit_#1", "modèle", "`x`"])
def test_a_folder_of_any_name_has_a_card(tmp_path, name):
    card = card_of(write(tmp_path / name, evaluations=[evaluation()]))
    assert yaml.safe_load(card.data.to_yaml())["model-index"][0]["name"] == name
    (repository,) = set(re.findall(r'from_pretrained\("(.*?)"\)', card.text))
    assert re.fullmatch(r"your-name/[\w.-]+", repository, re.ASCII)


# Pictures


def test_writing_twice_gives_the_same_files(tmp_path):
    folder = write(tmp_path, evaluations=[evaluation()])
    names = {write_card(folder).name, "posterior.png", "reliability.png"}
    before = {name: (folder / name).read_bytes() for name in names}
    write_card(folder)
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert not list(folder.glob(".*.tmp"))


def test_pictures_of_figures_that_are_gone_are_gone(tmp_path):
    write(tmp_path, evaluations=[evaluation(), evaluation("user/other", seed=1)])
    (tmp_path / "reliability-of-mine.png").write_bytes(b"mine")
    write_card(tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "posterior.png", "reliability.png", "reliability-2.png", "reliability-of-mine.png"
    }  # fmt: skip
    write_evaluations(tmp_path, [evaluation(reliability={})])
    write_card(tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {"posterior.png", "reliability-of-mine.png"}


def test_without_matplotlib_there_is_a_card_without_pictures(tmp_path, monkeypatch, caplog):
    write(tmp_path, evaluations=[evaluation()])
    write_card(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    card = card_of(tmp_path)
    assert "![" not in card.text and not list(tmp_path.glob("*.png"))
    assert len(card.data.eval_results) == 12
    assert "The card has no pictures" in caplog.text and "pip install" in caplog.text


@pytest.mark.parametrize("dataset", ["$", r"$ \frac{ $", r"a \$b$", "x" * 200, "数据 ∑ ∫ 😀"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_data_of_any_name_have_a_picture(tmp_path, dataset):
    card = card_of(write(tmp_path, evaluations=[evaluation(dataset)]))
    assert (tmp_path / "reliability.png").is_file()
    assert {r.dataset_name for r in card.data.eval_results} == {f"{dataset} (test)"}


# What others wrote


def test_a_card_that_is_there_is_gone_on_from(tmp_path):
    path = write(tmp_path) / "README.md"
    path.write_bytes(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n\r\n# Mine\r\n\r\nText.\r\n")
    write_card(tmp_path)
    written = path.read_bytes()
    assert b"\n" not in written.replace(b"\r\n", b"")
    assert ModelCard(written.decode()).data.license == "mit"
    assert written.decode().replace("\r\n", "\n").split("---\n")[2].startswith("\n# Mine\n\nText.\n\n<!-- hf_scorevi")
    write_card(tmp_path)
    assert path.read_bytes() == written


@pytest.mark.parametrize(("contents", "message"), [(b"\xff\xfe", "no UTF-8"), (b"---\na: [\n---\n", "no YAML")])
def test_a_card_that_cannot_be_read_is_named_and_stays(tmp_path, contents, message):
    path = write(tmp_path) / "README.md"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=rf"README\.md .*{message}"):
        write_card(tmp_path)
    assert path.read_bytes() == contents


def test_without_a_posterior_there_is_no_card(tmp_path):
    tiny_vit().save_pretrained(tmp_path)
    with pytest.raises(PosteriorCheckpointError, match="holds no posterior"):
        write_card(tmp_path)
    assert not (tmp_path / "README.md").exists()


# What strangers wrote


BAD = [
    None, True, -1, 0, 2**63, 1e308, -1e-308, "", "a | b |\n# <!-- hf_scorevi: end -->", [[[]]], {"a": {"b": [1]}},
    ["a", None, 3, {}], "\ud800\0", "x" * 10_000, {"| a |\n": "<!-- hf_scorevi: begin"},
]  # fmt: skip
KEYS = [
    "posterior", "posterior.family", "posterior.rank", "posterior.prior_mean", "posterior.prior_std", "num_data",
    "temperature", "likelihood.kind", "method", "method.objective", "method.update", "training", "training.base_model",
    "training.dataset", "training.epochs", "num_weights", "num_parameters", "summary", "summary.classifier.bias",
    "library_versions.torch", "base_config", "base_config.architectures", "base_config.id2label",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("key", KEYS)
def test_a_configuration_with_anything_in_it_has_an_ordinary_card(tmp_path, key, monkeypatch):
    path = write(tmp_path) / POSTERIOR_CONFIG_NAME
    contents = json.loads(path.read_text()) | {"base_config": {"architectures": ["ViTForImageClassification"]}}
    monkeypatch.setattr("hf_scorevi.hub.card._draw", lambda folder, content: set())  # drawn below
    for value in BAD:
        outer, _, inner = key.partition(".")
        path.write_text(json.dumps(contents | {outer: contents[outer] | {inner: value} if inner else value}))
        card = card_of(tmp_path)
        assert headings(card.text) in (SECTIONS, [s.replace("Calibration", "Evaluation") for s in SECTIONS])
        assert len(re.findall(r"^#", card.text, re.MULTILINE)) <= 8  # the title and PEFT's versions besides
        assert len(card.content) < 12_000


@pytest.mark.parametrize(
    "summary",
    [
        {"a": [1, 2, 3], "b": None, "c": [1, 2], "d": ["1", 2, 3], "e": [1, 2, 0], "f": [-1, 2, 3], "g": [1, 2, 3.5]},
        {"a": [1e-308, 1e308, 1], "b": [1e308, 1e-308, 1], "c": [0, 0, 1], "d": [1e308, 1, 2**63]},
        {
            "$\\frac{": [1, 2, 3],
            "\n|": [1, 2, 3],
            "": [1, 1, 1],
            "..": [1, 1, 1],
            "0.0.0": [1, 2, 1],
            "x" * 9999: [1, 2, 1],
        },
        {f"layers.{i}.{'9' * i}.weight": [1e-30 * 10**i, 1, 5] for i in range(60)},
        {f"{i}": [i, 1.0, 2**62] for i in range(500)},
    ],
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_summary_with_anything_in_it_is_drawn_as_far_as_it_can_be(tmp_path, summary):
    edit(write(tmp_path), summary=summary)
    card_of(tmp_path)
    assert (tmp_path / "posterior.png").is_file()


@pytest.mark.parametrize("name", ["class", "os; import sys", "vit", "A" * 101, "é", "True", None, 7])
def test_an_architecture_that_cannot_be_imported_is_not_named(tmp_path, name):
    write(tmp_path)
    for architectures in ([name], name):
        config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": architectures}
        (tmp_path / "config.json").write_text(json.dumps(config))
        text = card_of(tmp_path).text
        assert "A Bayesian model" in text and "from transformers import AutoModel\n" in text


def test_what_strangers_call_their_data_is_text_and_nothing_else(tmp_path):
    hostile = "a | b <img src=x> [x](https://evil.example) {{ 7 * 7 }} <!-- hf_scorevi: end --><!-- hf_scorevi: begin"
    own = evaluation(hostile, dataset_config=hostile, split=hostile)
    own.metrics |= {hostile: own.metrics["mean"]}
    own.reliability |= {hostile: own.reliability["mean"]}
    text = make_card(write(tmp_path, evaluations=[own]))
    card = ModelCard(text)
    assert {r.dataset_name for r in card.data.eval_results} == {own.title}
    (line,) = [line for line in card.text.splitlines() if "evil" in line]
    assert line.startswith("### a \\| b \\<img") and "\\[x\\](https:\\//evil" in line
    assert "{{ 7 \\* 7 }}" in line
    assert merge_cards(merge_cards(text, text.replace("Not recorded", "New")), text) == text
    assert tables(card.text)[0] == tables(make_card(write(tmp_path, evaluations=[evaluation()])))[0]


@pytest.mark.parametrize(
    "contents", ["", "[]", "{}", '{"evaluations": 1}', '{"format_version": "1.0", "evaluations": [{}]}']
)
def test_damaged_figures_are_named(tmp_path, contents):
    hashes = json.loads((write(tmp_path) / POSTERIOR_CONFIG_NAME).read_text())
    if contents.startswith('{"f'):
        contents = json.dumps(json.loads(contents) | {k: hashes[k] for k in ("mean_sha256", "posterior_sha256")})
    (tmp_path / CALIBRATION_NAME).write_text(contents)
    with pytest.raises(PosteriorCheckpointError, match=r"calibration\.json"):
        write_card(tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_a_card_of_a_checkpoint_with_very_much_in_it_is_short_and_soon_written(saved):
    folder = saved[2]
    if saved[1].family.name != "isotropic":
        pytest.skip("the same for all families")
    bins = {"edges": [i / 5000 for i in range(5001)], "counts": [1] * 5000}
    bins |= {"mean_confidence": [0.5] * 5000, "accuracy": [0.5] * 5000}
    rows = {"predictive": {"accuracy": 0.5, "ece": 0.1}, "mean": {"accuracy": 0.5}}
    many = [
        Evaluation(f"u/d{i}", 20, 4, 0, rows, reliability={"predictive": ReliabilityBins.from_dict(bins)})
        for i in range(30)
    ]
    write_evaluations(folder, many)
    path = folder / "posterior_config.json"
    contents = json.loads(path.read_text())
    contents["training"] = {f"k{i}": i for i in range(30_000)}
    contents["summary"] = {f"a.layers.{i}.b": [0.1, 1.0, 5] for i in range(10_000)}
    path.write_text(json.dumps(contents))
    began = time.process_time()
    text = write_card(folder).read_text()
    assert time.process_time() - began < 5
    assert len(text) < 100_000 and "29,9" in text and "| more" not in text
    assert "### u/d29" in text and "### u/d9" not in text and "`calibration.json` has 10 earlier ones" in text
    assert not list(folder.glob("*.png"))
    assert write_card(folder).read_text() == text
