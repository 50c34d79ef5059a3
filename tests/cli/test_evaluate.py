"""`hf-scorevi evaluate`: figures by hand, data from anywhere, cards in folders and on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    BertConfig,
    BertForTokenClassification,
    ViTImageProcessorPil,
)

import hf_scorevi.evaluation
from hf_scorevi import BayesianModel, PosteriorConfig
from hf_scorevi.cli import main
from hf_scorevi.hub import StoredPosterior, read_evaluations
from hf_scorevi.posterior import Posterior, select_parameters
from tests.cli.helpers import (
    LABELS,
    NAMES,
    OURS,
    REPO,
    commits,
    contents,
    error_of,
    evaluate,
    expected,
    seed_repo,
    tree,
    usage_error_of,
)
from tests.hub_server import Fault, HubServer
from tests.pictures import CLASSES, picture, png, save_pictures
from tests.tiny_models import tiny_vit

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


# Figures


def test_figures_are_those_of_predict_whatever_holds_the_data(
    hub: HubServer, folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed_repo(hub, folder, subfolder="deep/er/")
    (tmp_path / "rows.parquet").write_bytes(tree(hub, repo_id="datasets/user/data")["data/test-00000.parquet"])
    for i, label in enumerate(LABELS):
        (tmp_path / "photos" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / CLASSES[label] / f"{i}.png").write_bytes(png(picture(label, i)))
        (tmp_path / f"{i}.png").write_bytes(png(picture(label, i)))
    names = [f"{i}.png,{CLASSES[label]}" for i, label in enumerate(LABELS)]
    (tmp_path / "names.csv").write_text("\n".join(["picture,kind", *names]))
    numbers = [f"{i}.png,{label}" for i, label in enumerate(LABELS)]
    (tmp_path / "numbers.csv").write_text("\n".join(["picture,kind", *numbers]))
    columns = ["--image-column", "picture", "--label-column", "kind"]
    file = tmp_path / "figures.json"
    how = ["--num-samples", 5, "--seed", 3, "--json", file]
    wanted = expected(BayesianModel.from_pretrained(folder), num_samples=5, seed=3)
    assert wanted["predictive"]["accuracy"] > 0.8

    for argv, described in (
        ([REPO, "--subfolder", "deep/er", "--dataset", data], (data, None, "test")),
        ([folder, "--dataset", data, "--split", "test[:100%]"], (data, None, "test[:100%]")),
        ([folder, "--dataset", tmp_path / "photos"], ("photos", None, None)),
        ([folder, "--dataset", tmp_path / "rows.parquet"], ("rows.parquet", None, None)),
        ([folder, "--dataset", tmp_path / "names.csv", *columns], ("names.csv", None, None)),
        ([folder, "--dataset", tmp_path / "numbers.csv", *columns, "--batch-size", 4], ("numbers.csv", None, None)),
    ):
        assert evaluate(*argv, *how) == 0
        found = json.loads(file.read_text())
        for row, figures in wanted.items():
            assert found["metrics"][row] == pytest.approx(figures, abs=1e-6), argv
        assert (found["dataset"], found["dataset_config"], found["split"]) == described
        assert (found["num_examples"], found["num_samples"], found["seed"]) == (6, 5, 3)
    assert commits(hub) == ["Commit behind the scenes"]


def test_a_table_and_nothing_else_is_printed(folder: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    wanted = expected(BayesianModel.from_pretrained(folder))
    capsys.readouterr()
    assert evaluate(folder, "--dataset", data) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "user/data (test): 6 examples, 16 draws"
    assert header.split() == list(wanted["predictive"])
    assert [row.split()[0] for row in rows] == ["predictive", "mean"]
    for row in rows:
        name, *figures = row.split()
        assert [float(figure) for figure in figures] == pytest.approx(list(wanted[name].values()), abs=6e-5)
    assert contents(folder) == before


def test_figures_of_a_part_of_the_data_say_so(
    folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder, "--dataset", data, "--update-card") == 0
    assert evaluate(folder, "--dataset", data, "--max-examples", 4, "--update-card") == 0
    assert "user/data (test, 4 examples drawn with seed 0): 4 examples" in capsys.readouterr().out
    whole, part = read_evaluations(folder)
    assert (whole.num_examples, part.num_examples) == (6, 4)


def test_an_adapter_is_measured_on_its_base(
    hub: HubServer, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_vit(num_channels=3).push_to_hub("user/base")
    base = AutoModelForImageClassification.from_pretrained("user/base", num_labels=3, **NAMES)
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"], init_lora_weights=False)
    adapter = get_peft_model(base, lora)
    config = PosteriorConfig(init_std=0.5)
    posterior = Posterior.initialise(select_parameters(adapter), config)
    model = BayesianModel(adapter, posterior, StoredPosterior(config, num_data=10, temperature=1.0))
    model.save_pretrained(tmp_path / "adapter")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "adapter")
    seed_repo(hub, tmp_path / "adapter")
    wanted = expected(model)
    assert abs(wanted["predictive"]["nll"] - wanted["mean"]["nll"]) > 1e-4

    assert evaluate(REPO, "--dataset", data, "--json", tmp_path / "figures.json", "--update-card") == 0
    found = json.loads((tmp_path / "figures.json").read_text())["metrics"]
    for row, figures in wanted.items():
        assert found[row] == pytest.approx(figures, abs=1e-6)
    assert commits(hub)[0] == "Figures on user/data (test)"
    assert "adapter_config.json" in tree(hub) and "PeftModel" in tree(hub)["README.md"].decode()


# Cards


def test_the_card_of_a_folder_gets_the_figures(
    folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["card", str(folder)])
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace(OURS, f"I like cats.\n\n{OURS}"))
    before = contents(folder)
    assert evaluate(folder, "--dataset", data, "--json", tmp_path / "figures.json", "--update-card") == 0
    assert capsys.readouterr().out.endswith(f"\n{folder / 'README.md'}\n")
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        "calibration.json", "README.md", "reliability.png"
    }  # fmt: skip
    found = json.loads((tmp_path / "figures.json").read_text())
    assert [evaluation.to_dict() for evaluation in read_evaluations(folder)] == [found]
    text = (folder / "README.md").read_text()
    assert "I like cats." in text and "user/data" in text[text.index(OURS) :]
    results = {
        (result.metric_type, result.metric_args["weights"]): result.metric_value
        for result in ModelCard(text).data.eval_results
    }
    for row, figures in found["metrics"].items():
        for name, value in figures.items():
            assert results[name, row] == pytest.approx(value)


def test_the_card_on_the_hub_gets_the_figures_in_one_commit_without_the_weights(
    hub: HubServer, folder: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["card", str(folder), "--repo-id", REPO, "--license", "mit"])
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace(OURS, f"I like cats.\n\n{OURS}"))
    seed_repo(hub, folder)
    before, local = tree(hub), contents(folder)
    capsys.readouterr()

    assert evaluate(REPO, "--dataset", data, "--update-card") == 0
    after = tree(hub)
    assert capsys.readouterr().out.endswith(f"\n{hub.url}/{REPO}/commit/{hub.repos[REPO].find('main').sha}\n")
    assert commits(hub) == ["Figures on user/data (test)", "Commit behind the scenes"]
    assert {name for name in after if after[name] != before.get(name)} == {
        "calibration.json", "README.md", "reliability.png"
    }  # fmt: skip
    assert set(before) <= set(after)
    text = after["README.md"].decode()
    assert "I like cats." in text and "license: mit" in text and "user/data" in text[text.index(OURS) :]
    (figures,) = json.loads(after["calibration.json"])["evaluations"]
    values = {(r.metric_type, r.metric_args["weights"]): r for r in ModelCard(text).data.eval_results}
    assert values["ece", "predictive"].metric_value == pytest.approx(figures["metrics"]["predictive"]["ece"])
    assert values["ece", "predictive"].dataset_type == "user/data"
    assert [e.title for e in BayesianModel.from_pretrained(REPO).evaluations] == ["user/data (test)"]

    assert evaluate(REPO, "--dataset", data, "--update-card") == 0  # the same again
    assert len(commits(hub)) == 2
    assert evaluate(REPO, "--dataset", data, "--update-card", "--seed", 1) == 0  # in the place of the first
    assert len(commits(hub)) == 3
    assert [e["seed"] for e in json.loads(tree(hub)["calibration.json"])["evaluations"]] == [1]
    assert contents(folder) == local


def test_figures_are_proposed_to_the_repository_of_another(
    hub: HubServer, folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed_repo(hub, folder)
    argv = [REPO, "--dataset", data, "--token", hub.add_user("eve"), "--update-card"]
    assert evaluate(*argv, "--json", tmp_path / "figures.json") == 1
    said = capsys.readouterr()
    assert "error: The figures could not be added to user/pets: 403" in said.err
    assert said.out.startswith("user/data (test): 6 examples") and (tmp_path / "figures.json").is_file()
    assert evaluate(*argv, "--create-pr") == 0
    assert capsys.readouterr().out.endswith(f"\n{hub.url}/{REPO}/discussions/1\n")
    assert commits(hub) == ["Commit behind the scenes"]
    assert set(tree(hub, "refs/pr/1")) - set(tree(hub)) == {
        "README.md", "calibration.json", "posterior.png", "reliability.png"
    }  # fmt: skip


def test_figures_of_a_branch_stay_there(hub: HubServer, folder: Path, data: str) -> None:
    hub.commit(REPO, {"notes.txt": "no posterior here"})
    hub.commit(REPO, contents(folder), branch="bayes")
    assert evaluate(REPO, "--revision", "bayes", "--dataset", data, "--update-card") == 0
    assert commits(hub, "bayes")[0] == "Figures on user/data (test)"
    assert "calibration.json" in tree(hub, "bayes") and "calibration.json" not in tree(hub)


def test_figures_of_weights_that_have_changed_meanwhile_are_not_pushed(
    hub: HubServer, folder: Path, data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_repo(hub, folder)
    measure = hf_scorevi.evaluation.measure

    def slowly(*args: Any, **kwargs: Any) -> Any:
        model = BayesianModel.from_pretrained(folder)
        with torch.no_grad():
            next(model.model.parameters()).add_(1)
        model.save_pretrained(folder)
        seed_repo(hub, folder)
        return measure(*args, **kwargs)

    monkeypatch.setattr(hf_scorevi.evaluation, "measure", slowly)
    assert evaluate(REPO, "--dataset", data, "--update-card") == 1
    assert "weights there have changed since these were measured" in capsys.readouterr().err
    assert commits(hub) == ["Commit behind the scenes"] * 2 and "calibration.json" not in tree(hub)


# Mistakes


def test_without_an_image_processor_one_is_asked_for(
    hub: HubServer, folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "preprocessor_config.json").rename(tmp_path / "preprocessor_config.json")
    seed_repo(hub, folder)
    for name in (folder, REPO):
        message = error_of(capsys, "evaluate", name, "--dataset", data, "--use-cpu")
        assert f"{name} has no image processor" in message and "Give --image-processor a repository or" in message
    assert evaluate(REPO, "--dataset", data, "--image-processor", tmp_path) == 0
    ours = ["evaluate", folder, "--dataset", data, "--use-cpu", "--image-processor"]
    assert "user/gone has no image processor" in error_of(capsys, *ours, "user/gone")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    assert "does not fit the model (Input image size (16*16)" in error_of(capsys, *ours, tmp_path)
    for hostile in ('{"image_processor_type": 5}', '{"auto_map": {"AutoImageProcessor": "evil.Evil"}}', "{"):
        (tmp_path / "preprocessor_config.json").write_text(hostile)
        (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
        assert "Give --image-processor a repository or" in error_of(capsys, *ours, tmp_path)


def test_mistakes_are_named(
    hub: HubServer, folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "photos", 2)
    (tmp_path / "photos" / "fox").rename(tmp_path / "photos" / "owl")
    save_pictures(tmp_path / "damaged", 2)
    (tmp_path / "damaged" / "dog" / "1.png").write_bytes(b"no image")
    own = ["evaluate", folder, "--use-cpu", "--dataset"]
    for argv, message in (
        ([*own, "user/gone"], "user/gone cannot be loaded (Dataset 'user/gone' doesn't exist on the Hub"),
        ([*own, data, "--split", "dev"], "Unknown split \"dev\". Should be one of ['test']). Give a data set of the"),
        ([*own, data, "--config", "big"], "'big' not found. Available: ['default']). Give a data set of the Hub with"),
        ([*own, data, "--image-column", "img"], "user/data has no column 'img'; its columns are image, label."),
        ([*own, tmp_path / "photos"], "none of the model's classes: owl. The classes are cat, dog, fox."),
        ([*own, tmp_path / "damaged"], "dog/1.png cannot be read (cannot identify image file"),
        ([*own, tmp_path / "gone.csv"], "There is no file"),
        (["evaluate", "user/gone", "--dataset", data], "user/gone is neither a folder nor a repository of the Hub"),
        (["evaluate", "user/data", "--dataset", data], "user/data is neither a folder nor a repository of the Hub"),
        (["evaluate", tmp_path, "--dataset", data], "it holds no posterior"),
        (["evaluate", folder, "--dataset", data, "--subfolder", "../x"], "subfolder must lie within the checkpoint"),
        (["evaluate", "user/gone", "--dataset", data, "--token", "wrong"], "user/gone is neither a folder nor"),
    ):
        assert message in error_of(capsys, *argv)


def test_other_models_are_sent_to_python(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    bert, config = BertForTokenClassification(BertConfig(**sizes)), PosteriorConfig(target="classifier")
    posterior = Posterior.initialise(select_parameters(bert, "classifier"), config)
    BayesianModel(bert, posterior, StoredPosterior(config, num_data=1, temperature=1.0)).save_pretrained(
        tmp_path / "b"
    )
    message = error_of(capsys, "evaluate", tmp_path / "b", "--dataset", data)
    assert "is a BertForTokenClassification" in message and "hf_scorevi.evaluation.evaluate(model," in message


def test_too_little_memory_is_explained(
    folder: Path, data: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(hf_scorevi.evaluation, "measure", fill)
    message = error_of(capsys, "evaluate", folder, "--dataset", data)
    assert message == "error: CUDA out of memory. Give a smaller --batch-size, or --use-cpu.\n"


def test_a_hub_that_fails_is_named(
    hub: HubServer, folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed_repo(hub, folder)
    hub.faults.append(Fault("/commit/main", status=503, times=9))
    assert evaluate(REPO, "--dataset", data, "--update-card") == 1
    assert "error: The figures could not be added to user/pets: " in capsys.readouterr().err
    hub.__exit__()
    save_pictures(tmp_path / "photos", 1)
    message = error_of(capsys, "evaluate", "user/other", "--dataset", tmp_path / "photos")
    assert "user/other is not in the cache, and the Hub was not asked or " in message
    assert "user/other cannot be loaded (Couldn't reach" in error_of(
        capsys, "evaluate", folder, "--dataset", "user/other"
    )


# Two side by side, and pictures


def other_model(folder: Path, path: Path) -> Path:
    """One whose predictions are another's, for the same classes."""
    model = BayesianModel.from_pretrained(folder)
    with torch.no_grad():
        model.model.classifier.weight.mul_(0.2)
    model.save_pretrained(path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(path)
    return path


def test_two_are_compared_on_the_same_images(
    folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, file = other_model(folder, tmp_path / "other"), tmp_path / "figures.json"
    assert evaluate(folder, "--compare", other, "--dataset", data, "--json", file) == 0
    out = capsys.readouterr().out
    found = json.loads(file.read_text())
    for name, path in ((str(folder), folder), (str(other), other)):
        wanted = expected(BayesianModel.from_pretrained(path))["predictive"]
        assert found["evaluations"][name]["metrics"]["predictive"] == pytest.approx(wanted, abs=1e-6)
        assert f"{name} on user/data (test): 6 examples, 16 draws" in out
    both = [found["evaluations"][str(path)]["metrics"]["predictive"] for path in (folder, other)]
    for metric, own in found["differences"].items():
        assert own["difference"] == pytest.approx(both[1][metric] - both[0][metric], abs=1e-6)
        assert own["low"] <= own["difference"] <= own["high"] or metric == "ece"  # whose resamples are biased
    line = next(line for line in out.splitlines() if line.startswith("nll "))
    assert f"{found['differences']['nll']['difference']:+.4f}" in line


def test_a_model_compared_with_itself_has_no_differences(
    folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder, "--compare", folder, "--dataset", data, "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())["differences"]
    assert all(own["difference"] == own["low"] == own["high"] == 0 for own in found.values())
    assert not any(line.endswith("  *") for line in capsys.readouterr().out.splitlines())


def test_pictures_are_saved(folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = other_model(folder, tmp_path / "other")
    for argv in ((), ("--compare", other)):
        assert evaluate(folder, *argv, "--dataset", data, "--plots", tmp_path / "pictures") == 0
        saved = {path.name for path in (tmp_path / "pictures").iterdir()}
        assert saved == {"reliability.png", "confidence.png", "risk_coverage.png", "draws.png"}
        out = capsys.readouterr().out
        assert all(str(tmp_path / "pictures" / name) in out for name in saved)
        for name in saved:
            with Image.open(tmp_path / "pictures" / name) as image:
                assert image.width == 700 and image.height > 300


def test_classes_in_another_order_are_not_compared(
    folder: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = other_model(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    names = list(config["id2label"].values())[::-1]
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    (other / "config.json").write_text(json.dumps(config))
    assert evaluate(folder, "--compare", other, "--dataset", data) == 1
    assert "number their classes differently" in capsys.readouterr().err


def test_what_does_not_go_together_is_said(folder: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("evaluate", folder, "--dataset", data)
    assert "leave out --compare" in usage_error_of(capsys, *own, "--compare", folder, "--update-card")
    assert "folder around it" in usage_error_of(capsys, *own, "--plots", "/nowhere/at/all")


def test_classes_that_are_called_by_numbers_are_found_and_gaps_in_their_order_named(folder, capsys, tmp_path):
    path, photos = folder / "config.json", tmp_path / "photos"
    for name in ("cat", "5"):
        (photos / name).mkdir(parents=True)
        (photos / name / "a.png").write_bytes(png(picture(0, 0)))
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"id2label": {"0": "cat", "1": 5, "2": "fox"}}))
    BayesianModel.from_pretrained(folder)
    assert main(["evaluate", str(folder), "--dataset", str(photos), "--use-cpu", "--num-samples", "2"]) == 0
    assert "2 examples" in capsys.readouterr().out
    path.write_text(json.dumps(config | {"id2label": {"0": "cat", "1": "dog", "7": "fox"}}))
    for command in ("evaluate", "calibrate"):
        assert main([command, str(folder), "--dataset", str(photos), "--use-cpu"]) == 1
        found = capsys.readouterr().err.strip().splitlines()[-1]
        assert found.startswith("error: The model's configuration numbers its classes ['0', '1', '7'], not from 0 on")


# Labels, columns and images that are not what they should be


def table(tmp_path: Path, **columns: list[Any]) -> Path:
    pd.DataFrame(columns).to_parquet(tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": {"0": "cat", "1": ["x"], "2": "fox"}}, "(id2label) calls a class ['x'], which is no text"),
        ({"id2label": {"0": "cat", "1": None, "2": "fox"}}, "(id2label) calls a class None, which is no text"),
        ({"id2label": {"0": "cat", "1": "cat", "2": "fox"}}, "calls several classes 'cat', which is a label"),
        ({"problem_type": "multi_label_classification"}, "predicts labels (its problem_type is multi_label"),
        ({"problem_type": "regression"}, "predicts numbers (its problem_type is regression)"),
    ],
)
def test_a_configuration_that_does_not_say_what_the_classes_are(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: dict[str, Any],
    message: str,
) -> None:
    save_pictures(tmp_path / "photos", 2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    said = error_of(capsys, command, folder, "--dataset", tmp_path / "photos", "--use-cpu")
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, ["--label-column", "image"], "cannot both be in the column 'image'"),
        ({"image": [{"file": "a.png"}] * 2}, [], "has the fields file, and is neither a path nor a file's bytes"),
        ({"image": [{"bytes": 3, "path": None}] * 2}, [], "is neither a path nor a file's bytes"),
        ({"image": [[[1, 2], [3]]] * 2}, [], "rows of different lengths"),
        ({"label": [0.0, 1.0]}, [], "labels that are none of the model's classes: 0.0, 1.0"),
        ({"label": ["cat", None]}, [], "labels that are none of the model's classes: None"),
        ({}, ["--dataset", ""], "no data set without a name"),
    ],
)
def test_mistakes_in_a_table_are_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    columns: dict[str, list[Any]],
    options: list[str],
    message: str,
) -> None:
    file = table(tmp_path, **({"image": [png(picture(0, 0)), png(picture(1, 1))], "label": ["cat", "dog"]} | columns))
    said = error_of(capsys, "evaluate", folder, "--dataset", file, "--use-cpu", *options)
    assert message in said and said.count("\n") == 1
