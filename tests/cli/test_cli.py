"""`hf-scorevi`, as its users run it, against a local Hub: its help, `push` and `card`."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import hf_scorevi
from hf_scorevi import BayesianModel
from hf_scorevi.cli import main
from tests.cli.helpers import OURS, REPO, commits, contents, error_of, expected, tree, usage_error_of
from tests.hub_server import HubServer, run_client

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


# Help


def python(*argv: str) -> subprocess.CompletedProcess[str]:
    """A fresh process."""
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True)


HELP = """
import sys
from hf_scorevi.cli import main
for command in [], ["push"], ["card"], ["evaluate"], ["calibrate"], ["predict"]:
    try:
        main([*command, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
assert not {"torch", "transformers", "datasets"} & set(sys.modules)
"""


def test_help_tells_every_default_and_waits_for_neither_torch_nor_transformers() -> None:
    done = python("-c", HELP)
    assert done.returncode == 0, done.stderr
    assert "None" not in done.stdout and "False" not in done.stdout
    words = " ".join(done.stdout.split())
    for default in (
        "16",
        "32",
        "0",
        "test",
        "image",
        "label or labels",
        "main",
        "the checkpoint's, or its base model's",
        "0.05 0.25 0.5 0.75 0.95",
        "all of them",
        "validation",
    ):
        assert f"(default: {default})" in words
    assert "examples: hf-scorevi push outputs/pets" in words and "commands: COMMAND push push a checkpoint" in words


def test_it_is_installed_as_a_command_and_as_a_module() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="hf-scorevi")
    assert script.value == "hf_scorevi.cli:main"
    done = python("-m", "hf_scorevi.cli")
    assert done.returncode == 2 and "required: COMMAND" in done.stderr and "Traceback" not in done.stderr


PACKAGE = """
import sys
import hf_scorevi
assert set(hf_scorevi.__all__) | {"hub", "metrics", "__version__"} <= set(dir(hf_scorevi))
assert "torch" not in sys.modules
from hf_scorevi import PosteriorConfig
assert PosteriorConfig is hf_scorevi.posterior.PosteriorConfig is hf_scorevi.PosteriorConfig
assert "torch" in sys.modules and "transformers" not in sys.modules
"""


def test_the_package_imports_its_names_when_they_are_asked_for() -> None:
    done = python("-c", PACKAGE)
    assert done.returncode == 0, done.stderr
    assert all(getattr(hf_scorevi, name).__name__ == name for name in hf_scorevi.__all__)
    assert hf_scorevi.plots.__name__ == "hf_scorevi.plots"
    with pytest.raises(AttributeError, match="module 'hf_scorevi' has no attribute 'BayesianModle'"):
        hf_scorevi.BayesianModle  # noqa: B018


@pytest.mark.parametrize("error", [KeyError("pixel_values"), OverflowError("too large\nto count"), TypeError("odd")])
def test_whatever_goes_wrong_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(hf_scorevi.hub, "write_card", fail)
    said = error_of(capsys, "card", folder)
    assert said.startswith(f"error: {type(error).__name__}: ") and said.count("\n") == 1
    assert "please report it" in said


def test_wrong_usage_is_explained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure = ["evaluate", folder, "--dataset", "user/data"]
    for argv, message in (
        (["push", folder], "required: REPO"),
        (["evaluate", folder], "required: --dataset"),
        (["pull", folder], "invalid choice: 'pull' (choose from"),
        ([*measure, "--num-sample", "4"], "unrecognized arguments: --num-sample 4"),
        ([*measure, "--num-samples", "0"], "--num-samples: must be a whole number of at least 1, not '0'"),
        ([*measure, "--num-samples", str(10**30)], "--num-samples: must be a whole number of at most 1,000,000,000"),
        ([*measure, "--batch-size", "many"], "--batch-size: must be a whole number of at least 1, not 'many'"),
        ([*measure, "--seed", "-1"], "--seed: must be a whole number from 0 to 2**32 - 1, not '-1'"),
        ([*measure, "--json", tmp_path / "no" / "x.json"], "x.json' cannot be written: its folder is missing"),
        ([*measure, "--create-pr", "--update-card"], "--create-pr goes with --update-card, for a repository"),
        (["evaluate", REPO, "--dataset", "user/data", "--create-pr"], "--create-pr goes with --update-card"),
    ):
        assert message in usage_error_of(capsys, *argv)


def test_being_stopped_is_no_traceback(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_scorevi.hub.write_card", stop)
    assert main(["card", str(folder)]) == 130
    assert capsys.readouterr().err == "stopped\n"


# Push


def test_a_folder_is_pushed_once_in_one_commit(
    hub: HubServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "notes.txt").write_text("mine")
    metadata = ["--name", "Pets", "--license", "mit", "--language", "en", "--base-model", "google/vit"]
    metadata += ["--datasets", "user/data", "user/more", "--tags", "cats", "dogs"]
    assert main(["push", str(folder), REPO, "--private", "--message", "Our pets", *metadata]) == 0
    repo, files = hub.repos[REPO], tree(hub)
    assert capsys.readouterr().out == f"{hub.url}/{REPO}/commit/{repo.find('main').sha}\n"
    assert repo.private and commits(hub) == ["Our pets"]
    for name in ("model.safetensors", "posterior.safetensors", "posterior_config.json", "notes.txt", "README.md"):
        assert files[name] == (folder / name).read_bytes()
    assert not [name for name in files if name.endswith(".bin")]
    card = ModelCard(files["README.md"].decode())
    assert (card.data.license, card.data.language, card.data.base_model) == ("mit", "en", "google/vit")
    assert card.data.datasets == ["user/data", "user/more"] and {"cats", "dogs", "bayesian"} <= set(card.data.tags)
    assert "# Pets" in card.text and f'from_pretrained("{REPO}")' in card.text

    assert main(["push", str(folder), REPO, "--private", *metadata]) == 0
    assert commits(hub) == ["Our pets"]
    assert capsys.readouterr().out == f"{hub.url}/{REPO}/commit/{repo.find('main').sha}\n"


def test_a_branch_and_a_pull_request_leave_main_alone(
    hub: HubServer, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(REPO, {"notes.txt": "theirs"})
    assert main(["push", str(folder), REPO, "--revision", "bayes"]) == 0
    assert main(["push", str(folder), REPO, "--create-pr", "--message", "Try this"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.url}/{REPO}/discussions/1"
    assert commits(hub) == ["Commit behind the scenes"]
    assert commits(hub, "bayes")[0] == "Upload a Bayesian checkpoint with hf-scorevi"
    assert commits(hub, "refs/pr/1")[0] == "Try this"
    for revision in ("bayes", "refs/pr/1"):
        assert {"posterior.safetensors", "notes.txt"} <= set(tree(hub, revision))


def test_what_cannot_be_pushed_is_explained_and_stays_as_it_is(
    hub: HubServer, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert "nowhere is not a folder" in error_of(capsys, "push", tmp_path / "nowhere", REPO)
    wrong = "hf_" + "x" * 34
    message = error_of(capsys, "push", folder, REPO, "--token", wrong)
    assert "could not be pushed" in message and "401" in message and wrong not in message
    assert f"hf-scorevi push {folder} {REPO}" in message
    assert "403" in error_of(capsys, "push", folder, "other/pets")
    assert "'a/b/c'" in error_of(capsys, "push", folder, "a/b/c")
    hub.__exit__()
    message = error_of(capsys, "push", folder, REPO)
    assert "could not be pushed" in message and "refused" in message and "complete on disk" in message
    assert contents(folder) == before and not hub.repos

    (folder / "posterior_config.json").unlink()
    before = contents(folder)
    assert "it holds no posterior" in error_of(capsys, "push", folder, REPO)
    assert contents(folder) == before


# Card


def test_a_card_is_written_anew_around_what_people_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", str(folder), "--license", "mit"]) == 0
    path = folder / "README.md"
    assert capsys.readouterr().out == f"{path}\n"
    first = path.read_text()
    path.write_text(first.replace("A Bayesian", "A worse").replace(OURS, f"I like cats.\n\n{OURS}") + "\nAnd dogs.\n")
    assert main(["card", str(folder), "--repo-id", REPO, "--license", "apache-2.0"]) == 0
    card = path.read_text()
    assert "I like cats." in card and card.endswith("\nAnd dogs.\n")
    assert "A worse" not in card and "A Bayesian" in card and f'from_pretrained("{REPO}")' in card
    assert "license: apache-2.0" in card and "license: mit" not in card  # what is said now
    assert main(["card", str(folder)]) == 0
    assert "license: apache-2.0" in path.read_text()  # and stays
    assert card.count(OURS) == 1 and (folder / "posterior.png").stat().st_size > 1000


def test_a_card_needs_a_posterior_and_metadata_that_can_be_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nowhere is not a folder" in error_of(capsys, "card", tmp_path / "nowhere")
    assert "holds no posterior" in error_of(capsys, "card", tmp_path)
    (folder / "README.md").write_text("---\na: [\n---\nMine\n")
    assert "README.md are no YAML" in error_of(capsys, "card", folder)
    assert (folder / "README.md").read_text() == "---\na: [\n---\nMine\n"


# All of it


def test_a_fresh_process_pushes_and_measures(hub: HubServer, folder: Path, data: str) -> None:
    code = f"""
        from hf_scorevi.cli import main
        assert main(["push", {str(folder)!r}, "{REPO}", "--private"]) == 0
        assert main(["evaluate", "{REPO}", "--dataset", "{data}", "--use-cpu", "--update-card"]) == 0
    """
    pushed, title, _, predictive, _, updated = run_client(hub, code).splitlines()
    assert pushed.startswith(f"{hub.url}/{REPO}/commit/") and updated.startswith(f"{hub.url}/{REPO}/commit/")
    assert title == "user/data (test): 6 examples, 16 draws"
    accuracy = expected(BayesianModel.from_pretrained(folder))["predictive"]["accuracy"]
    assert float(predictive.split()[1]) == pytest.approx(accuracy, abs=6e-5)
    assert len(commits(hub)) == 2 and hub.repos[REPO].private
