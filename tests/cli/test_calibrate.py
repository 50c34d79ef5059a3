"""`hf-scorevi calibrate`: fitted, stored, applied and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_scorevi import BayesianModel
from hf_scorevi.cli import main
from hf_scorevi.hub import read_evaluations, read_recalibration
from tests.cli.helpers import REPO, commits, error_of, evaluate, seed_repo, tree, usage_error_of
from tests.hub_server import HubServer
from tests.pictures import CLASSES, picture, png

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # huggingface_hub's uploads make httpx2 say so


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Images that are not among the test data."""
    for i in range(12):
        path = tmp_path / "held-out" / CLASSES[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(i % 3, 100 + i)))
    return tmp_path / "held-out"


def calibrate(*argv: object) -> int:
    return main(["calibrate", *map(str, argv), "--use-cpu", "--num-samples", "4"])


def test_a_folder_s_predictions_are_recalibrated(
    folder: Path, held_out: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder, "--dataset", data, "--update-card") == 0
    capsys.readouterr()
    assert calibrate(folder, "--dataset", held_out) == 0
    first, second, card = capsys.readouterr().out.splitlines()
    found = read_recalibration(folder)
    assert found is not None and found.temperature != 1 and found.posterior_scale == 1
    assert (found.dataset, found.num_examples, found.num_samples) == ("held-out", 12, 4)
    assert first == f"temperature {found.temperature:.4f}, posterior standard deviations times 1.0000"
    assert second == f"NLL of 12 examples: {found.nll_before:.4f} before, {found.nll_after:.4f} after"
    assert found.nll_after < found.nll_before
    assert f"temperature {found.temperature:.3g}" in Path(card).read_text()
    assert read_evaluations(folder) == [] and BayesianModel.from_pretrained(folder).recalibration == found

    assert evaluate(folder, "--dataset", data, "--update-card") == 0  # which leaves it where it is
    assert "16 draws, recalibrated" in capsys.readouterr().out
    assert read_recalibration(folder) == found and read_evaluations(folder)[0].recalibrated
    assert "was recalibrated on (held-out)" in error_of(capsys, "evaluate", folder, "--dataset", held_out, "--use-cpu")


def test_a_repository_gets_one_commit(
    hub: HubServer, folder: Path, held_out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed_repo(hub, folder)
    assert calibrate(REPO, "--dataset", held_out, "--posterior-scale", "--no-temperature") == 0
    assert commits(hub) == ["Recalibrated on held-out", "Commit behind the scenes"]
    assert "posterior standard deviations times" in tree(hub)["README.md"].decode()
    found = BayesianModel.from_pretrained(REPO).recalibration
    assert found is not None and found.temperature == 1 and found.posterior_scale != 1


def test_mistakes_are_named(folder: Path, held_out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("calibrate", folder, "--dataset", held_out)
    assert "add --posterior-scale" in usage_error_of(capsys, *own, "--no-temperature")
    assert "for a repository on the Hub" in usage_error_of(capsys, *own, "--create-pr")
    assert "There is no" in error_of(capsys, "calibrate", folder, "--dataset", held_out / "gone.csv")
