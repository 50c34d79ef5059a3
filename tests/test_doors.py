"""Code from a checkpoint is never executed, by whatever door it comes in, though somebody answers "y"."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoConfig, AutoModelForImageClassification, ViTImageProcessorPil, pipeline

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig, ScoreVITrainer
from hf_scorevi.cli import main
from hf_scorevi.errors import InputError
from hf_scorevi.hub import push_checkpoint
from hf_scorevi.hub.processors import load_image_processor
from hf_scorevi.pipelines.loading import NotLoadedError
from tests.forecasters import bayesian as bayesian_forecaster
from tests.forecasters import processor_of, series, tiny_koopa
from tests.hub_server import HubServer, online
from tests.test_prediction import bayesian
from tests.tiny_models import Examples, arguments, tiny_vit
from trainer import _model as program

CLASSES, SERIES = "bayesian-image-classification", "forecasting"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
CODE = ("evil.py", "custom_generate/generate.py", "custom_generate/requirements.txt", "hubconf.py", "setup.py")
REFERENCES = {
    name: "evil.Evil"
    for name in (
        *("AutoConfig", "AutoModel", "AutoModelForImageClassification", "AutoModelForTimeSeriesPrediction"),
        *("AutoImageProcessor", "AutoImageProcessorFast", "AutoFeatureExtractor", "AutoProcessor"),
        *("AutoVideoProcessor", "AutoTokenizer"),
    )
}
FILES = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("tokenizer_config.json", "generation_config.json", "adapter_config.json"),
)
# What is refused is so by the errors of this library.
OURS = (PosteriorCheckpointError, InputError, NotLoadedError)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("doors")
    classifier = ScoreVITrainer(
        tiny_vit(num_channels=3),
        arguments(root / "classifier", max_steps=2, save_strategy="steps", save_steps=1),
        train_dataset=data(),
        posterior_config=PosteriorConfig(),
        processing_class=ViTImageProcessorPil(size={"height": 8, "width": 8}),
    )
    classifier.train()
    classifier.save_model()
    bayesian_forecaster(tiny_koopa(), 0.04).save_pretrained(root / "forecaster")
    processor_of(series()[:90]).save_pretrained(root / "forecaster")
    base = tiny_vit(num_channels=3)
    base.save_pretrained(root / "base")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(root / "base")
    base.name_or_path = str(root / "base")
    bayesian(get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))).save_pretrained(root / "adapter")
    return root


@pytest.fixture(params=["beside its own", "in the place of its own"])
def poisoned(originals, tmp_path, monkeypatch, request):
    """The checkpoints with code under every name that anything could look for it; nothing may make the mark."""
    mark, questions = tmp_path / "executed", []
    monkeypatch.setattr("builtins.input", lambda *said: questions.append(said) or "y")
    root = shutil.copytree(originals, tmp_path / "checkpoints")
    folders = [path.parent for path in root.rglob("posterior_config.json")] + [root / "base"]
    for folder in folders:
        for name in CODE:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\ndef generate(): pass\n")
        for name in FILES:
            path = folder / name
            there = path.exists()
            if (folder.name == "adapter") != (name == "adapter_config.json") and not there:
                continue  # it would be no adapter, or one
            values = json.loads(path.read_text()) if there else {}
            if name == "adapter_config.json" and there:
                values["base_model_name_or_path"] = str(root / "base")
            values |= {"auto_map": REFERENCES, "trust_remote_code": True}
            values["auto_mapping"] = {"base_model_class": "Evil", "parent_library": "evil"}
            values["custom_pipelines"] = {
                task: {"impl": "evil.Evil", "pt": ["AutoModel"]} for task in (CLASSES, SERIES)
            }
            if request.param != "beside its own":
                values |= {"model_type": "evil", "architectures": ["Evil"], "image_processor_type": "Evil"}
                values |= {"feature_extractor_type": "Evil", "processor_class": "Evil", "tokenizer_class": "Evil"}
            if there or request.param == "beside its own":
                path.write_text(json.dumps(values))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield root, request.param == "beside its own"
    assert not mark.exists()
    assert not questions


def data():
    torch.manual_seed(0)
    return Examples(pixel_values=torch.randn(12, 3, 8, 8), labels=torch.arange(12) % 3)


def check(is_own, run):
    """Beside what is a checkpoint's own, code is left alone; in its place there is nothing to load."""
    if is_own:
        return run()
    with pytest.raises(OURS):
        run()
    return None


def test_loading(poisoned):
    root, is_own = poisoned
    for name in ("classifier", "forecaster", "adapter"):
        if name != "adapter":
            check(is_own, partial(BayesianModel.from_pretrained, root / name, trust_remote_code=False))
        with pytest.raises(InputError, match="never executed: leave out trust_remote_code=True"):
            BayesianModel.from_pretrained(root / name, trust_remote_code=True)
    BayesianModel.from_pretrained(root / "adapter")  # the base's configuration is in posterior_config.json
    check(is_own, lambda: load_image_processor(root / "classifier"))


@pytest.mark.parametrize("by_hub", [False, True])
def test_pipelines(poisoned, tmp_path, by_hub):
    root, is_own = poisoned
    with HubServer() as hub, online(hub, tmp_path / "home"):
        for folder in ("classifier", "forecaster", "base", "adapter"):
            files = {
                str(p.relative_to(root / folder)): p.read_bytes() for p in (root / folder).rglob("*") if p.is_file()
            }
            hub.commit(f"user/{folder}", files)

        def name(folder):
            return f"user/{folder}" if by_hub else str(root / folder)

        found = check(is_own, lambda: pipeline(CLASSES, model=name("classifier"), device="cpu")(PICTURE))
        assert not is_own or found["entropy"] > 0
        check(is_own, lambda: pipeline(CLASSES, model=name("adapter"), device="cpu"))
        for task, folder in ((CLASSES, "classifier"), (SERIES, "forecaster")):
            with pytest.raises(InputError, match="never executes code from a checkpoint: leave out trust_remote_code"):
                pipeline(task, model=name(folder), trust_remote_code=True, device="cpu")
        check(is_own, lambda: pipeline(SERIES, model=name("forecaster"), device="cpu")(series()))
        classifier = bayesian(tiny_vit(num_channels=3))
        for trust in (None, True):
            given = {"image_processor": name("classifier"), "trust_remote_code": trust}
            check(is_own, partial(pipeline, CLASSES, model=classifier, **given, device="cpu"))
        forecaster = bayesian_forecaster(tiny_koopa(), 0.04)
        try:
            pipeline(SERIES, model=forecaster, feature_extractor=name("forecaster"), device="cpu")
        except ValueError as error:
            assert not is_own and "SeriesProcessor" in str(error)


def test_commands(poisoned, tmp_path, capsys, monkeypatch):
    root, is_own = poisoned
    rows = Dataset.from_dict({"image": [PICTURE] * 3, "label": ["LABEL_0", "LABEL_1", "LABEL_2"]})
    rows.to_parquet(tmp_path / "rows.parquet")
    with HubServer() as hub, online(hub, tmp_path / "home"):
        of_data = ["--dataset", str(tmp_path / "rows.parquet"), "--use-cpu", "--num-samples", "2"]
        for command in (["evaluate"], ["calibrate"]):
            status = main([*command, str(root / "classifier"), *of_data])
            assert status == (0 if is_own else 1), capsys.readouterr().err
        other = main(["evaluate", str(root / "adapter"), *of_data, "--image-processor", str(root / "base")])
        assert other == (0 if is_own else 1)
        assert main(["card", str(root / "classifier")]) == 0
        assert main(["push", str(root / "classifier"), "user/tiny"]) == 0
        assert "Traceback" not in capsys.readouterr().err
        push_checkpoint(root / "forecaster", "user/series")


def test_training(poisoned, tmp_path):
    root, _ = poisoned
    run = ScoreVITrainer(
        tiny_vit(num_channels=3),
        arguments(tmp_path / "out", max_steps=3, save_strategy="steps", save_steps=1),
        train_dataset=data(),
        posterior_config=PosteriorConfig(),
    )
    run.train(resume_from_checkpoint=str(root / "classifier" / "checkpoint-1"))
    assert run.state.global_step == 3


def test_the_programs(poisoned):
    root, is_own = poisoned
    args = program.ImageModelArguments(model_name_or_path=str(root / "base"))
    own = AutoConfig.for_model("vit", num_channels=3, image_size=8)
    for run in (
        lambda: program.load_config(args, None),
        lambda: program.load_processor(args, own),
        lambda: program.load_model(args, program.load_config(args, None), AutoModelForImageClassification),
    ):
        if is_own:
            run()
        else:
            with pytest.raises((ValueError, OSError, KeyError)):
                run()


def test_the_stock_tasks_of_transformers_are_asked_as_before(originals):
    """Only our own tasks read their configuration in another way."""
    found = AutoConfig.from_pretrained(originals / "base", _from_pipeline="image-classification")
    assert found.model_type == "vit" and found.name_or_path == str(originals / "base")


def test_files_of_others_are_not_read_by_an_image_processor(tmp_path, originals):
    shutil.copytree(originals / "base", tmp_path / "base")
    secret = Path(tmp_path / "secret.json")
    secret.write_text('{"0": {"name": "a", "isthing": 1}}')
    values = {"image_processor_type": "OneFormerImageProcessorPil", "repo_path": str(tmp_path), "num_text": 3}
    path = tmp_path / "base" / "preprocessor_config.json"
    for repo in (str(tmp_path), "user/evil"):
        path.write_text(json.dumps(values | {"repo_path": repo, "class_info_file": "secret.json"}))
        with HubServer() as hub, online(hub, tmp_path / "home"):
            try:
                found = load_image_processor(tmp_path / "base")
            except PosteriorCheckpointError:
                continue
            finally:
                assert not hub.requests
            assert "isthing" not in json.dumps(found.to_dict(), default=str)


@pytest.mark.parametrize("size", [{"height": 10**6, "width": 10**6}, {"shortest_edge": 10**7}, 10**5, [8, 10**6]])
def test_pictures_that_no_memory_holds_are_refused(tmp_path, originals, size):
    shutil.copytree(originals / "base", tmp_path / "base")
    path = tmp_path / "base" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": size}))
    with pytest.raises(PosteriorCheckpointError, match=r"pictures of at most 4096 can be right"):
        load_image_processor(tmp_path / "base")
