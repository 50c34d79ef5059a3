"""What the tests of `hf-scorevi` have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import ViTImageProcessorPil

from hf_scorevi import BayesianModel
from hf_scorevi.cli import main
from hf_scorevi.metrics import classification_metrics
from tests.hub_server import HubServer
from tests.pictures import CLASSES, picture

REPO = "user/pets"
LABELS = [0, 0, 0, 1, 1, 2]  # not as many of each: a class taken for another changes the figures
OURS = "<!-- hf_scorevi: begin"
NAMES = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seed_repo(hub: HubServer, folder: Path, repo_id: str = REPO, subfolder: str = "") -> str:
    return hub.commit(repo_id, {subfolder + name: content for name, content in contents(folder).items()})


def tree(hub: HubServer, revision: str = "main", repo_id: str = REPO) -> dict[str, bytes]:
    return {name: blob.data for name, blob in hub.repos[repo_id].find(revision).tree.items()}


def commits(hub: HubServer, revision: str = "main") -> list[str]:
    """Titles of the commits, the newest first, less the one that each repository begins with."""
    return [commit.title for commit in hub.repos[REPO].find(revision).history()][:-1]


def expected(model: BayesianModel, num_samples: int = 16, seed: int = 0) -> dict[str, dict[str, float]]:
    """The figures, the plain way."""
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    pixels = processor([picture(label, i) for i, label in enumerate(LABELS)], return_tensors="pt")["pixel_values"]
    figures = {}
    for row in ("predictive", "mean"):
        out = model.predict(pixel_values=pixels, num_samples=num_samples, seed=seed, use_mean=row == "mean")
        figures[row] = classification_metrics(out.probs.numpy(), np.array(LABELS))
        del figures[row]["ece_bins"]
    return figures


def evaluate(*argv: object) -> int:
    return main(["evaluate", *map(str, argv), "--use-cpu"])


def error_of(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """What the program says when it gives up, which is neither a success nor a traceback."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    return said.err[said.err.index("error: ") :]


def usage_error_of(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in argv])
    assert stop.value.code == 2
    return capsys.readouterr().err
