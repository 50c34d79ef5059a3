import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
Predictions = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def make_predictions() -> Callable[..., Predictions]:
    """Dirichlet probabilities, and labels drawn from them: the labels of a calibrated model."""

    def make(num_examples: int = 500, num_classes: int = 7, seed: int = 0) -> Predictions:
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.full(num_classes, 0.5), size=num_examples)
        below = probabilities.cumsum(axis=1) < rng.random((num_examples, 1))
        return probabilities, np.minimum(below.sum(axis=1), num_classes - 1)

    return make


@pytest.fixture
def run_python(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program in a fresh process of this Python, with caches of its own."""
    processes = []

    def run(code: str, *arguments: str, cwd: Path = tmp_path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            cwd=cwd,
            env=os.environ | {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def evaluate_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders for the scripts that evaluate copies and imports, and for what is added to a metric."""
    evaluate = pytest.importorskip("evaluate")

    def forget() -> None:  # Python keeps to the folder from which it has imported a package
        for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
            del sys.modules[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", sys.path.copy())
        for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE"):
            patch.setattr(evaluate.config, name, tmp_path_factory.mktemp(name))
        forget()
        yield
        forget()
