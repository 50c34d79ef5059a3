"""`trainer/image_classification.py` as a program of its own, in one process and in two."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_scorevi import BayesianModel, PosteriorConfig
from trainer.image_classification import main

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "trainer" / "image_classification.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]


def launch(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def test_help_is_grouped_and_shows_defaults(tmp_path: Path) -> None:
    done = launch(sys.executable, str(PROGRAM), "--help", home=tmp_path)
    assert done.returncode == 0, done.stderr
    headings = [line for line in done.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[1:-1] == [
        "model:",
        "data:",
        "posterior:",
        "score-matching variational inference:",
        "training: what transformers.TrainingArguments has:",
    ]
    assert headings[-1] == "examples:"
    assert "--eval_num_samples INT" in done.stdout and "(default: 16)" in done.stdout
    assert "default: None" not in done.stdout and "==SUPPRESS==" not in done.stdout


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(TORCHRUN, id="torchrun"),
        pytest.param([*ACCELERATE, str(ROOT / "trainer/accelerate/ddp.yaml")], id="ddp"),
        # On a CPU Accelerate would ignore FSDP.
        pytest.param(
            [*ACCELERATE, str(ROOT / "trainer/accelerate/fsdp2.yaml"), str(ROOT / "tests/fsdp2_on_cpu.py")], id="fsdp2"
        ),
    ],
)
def test_two_processes_write_one_checkpoint_and_resume(launcher: list[str], flags: list[str], tmp_path: Path) -> None:
    """The launchers and the configurations that come with the program; saved files are whole whatever they are."""
    flags = [*flags, "--save_strategy", "steps", "--save_steps", "3", "--dataloader_pin_memory", "False"]
    flags += ["--share_noise", "--no_random_flip", "--no_random_crop", "--train_sampling_strategy", "sequential"]
    # Adam would make steps of what rounding leaves of a gradient that is zero.
    flags += ["--curvature_interval", "2", "--optim", "sgd", "--learning_rate", "0.1"]
    main([*flags, "--per_device_train_batch_size", "8", "--output_dir", str(tmp_path / "one")])
    one = BayesianModel.from_pretrained(tmp_path / "one")
    flags += ["--per_device_train_batch_size", "4"]
    done = launch(*launcher, str(PROGRAM), *flags, home=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    out = tmp_path / "out"
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    assert (out / "checkpoint-3" / "pytorch_model_fsdp_0").is_dir() is ("fsdp2.yaml" in " ".join(launcher))
    assert BayesianModel.from_pretrained(out / "checkpoint-6").posterior_config == PosteriorConfig()
    assert json.loads((out / "eval_results.json").read_text())["eval_samples"] == 12
    assert done.stdout.count("predictive ") == 1  # one table, not one a process
    whole = BayesianModel.from_pretrained(out)
    assert whole.stored.num_data == 24  # all the data, not one process's share
    assert_same(whole, one)
    shutil.rmtree(out / "checkpoint-6")
    done = launch(*launcher, str(PROGRAM), *flags, "--resume_from_checkpoint", "True", home=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "checkpoint-6").is_dir()
    assert_same(BayesianModel.from_pretrained(out), one)


def assert_same(model: BayesianModel, other: BayesianModel) -> None:
    for (name, p), q in zip(model.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-5), name
    for name, precision in model.posterior.precision.items():
        assert torch.allclose(precision, other.posterior.precision[name], rtol=1e-4, atol=0), name


def test_the_configuration_for_one_gpu_launches(flags: list[str], tmp_path: Path) -> None:
    launcher = [*ACCELERATE, str(ROOT / "trainer/accelerate/one_gpu.yaml")]
    done = launch(*launcher, str(PROGRAM), *flags, home=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert BayesianModel.from_pretrained(tmp_path / "out").stored.method["steps"] == 6
