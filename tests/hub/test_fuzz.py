"""
Damaged and malicious checkpoints, thousands of them: each loads or is refused by `PosteriorCheckpointError`, soon and
in little memory. `FUZZ=20 pytest tests/hub/test_fuzz.py` tries twenty times as many; a failure names its case.
"""

import copy
import json
import os
import random
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers.utils import logging

from hf_scorevi import BayesianModel, PosteriorCheckpointError, PosteriorConfig
from hf_scorevi.hub import Evaluation, StoredPosterior, load_posterior, read_evaluations, save_posterior
from hf_scorevi.hub import write_evaluations as write_figures
from hf_scorevi.hub.untrusted import sha256
from hf_scorevi.metrics.reliability import reliability_bins
from hf_scorevi.posterior import Posterior, select_parameters
from tests.tiny_models import tiny_vit

resource = pytest.importorskip("resource")
if not Path("/proc/self/statm").exists():
    pytest.skip("needs Linux, to bound memory", allow_module_level=True)

MANY = int(os.environ.get("FUZZ", "1"))
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 1000, 90_000, 10**6, 10**7, 10**9, 2**31, 2**63, 2**64, 10**30),
    *(
        0.5,
        -0.0,
        1e-300,
        1e300,
        float("nan"),
        float("inf"),
        "",
        "x",
        "vit",
        "float16",
        "nan",
        "../x",
        "a" * 300,
        "\ud800",
    ),
    *([], {}, [[]], [None], [1] * 50, [10**9], {"": 0}, {"a": {"b": [1]}}, {"0": 10**9}, ["x", 1, None]),
]


class TookTooLong(BaseException):
    """Of no class that anybody catches."""


@contextmanager
def bounds(seconds=5, megabytes=600):
    """CPU time, and memory beyond what is in use, that all cases inside have in all."""

    def stop(*_):
        raise TookTooLong

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, hard))
    try:
        yield lambda: signal.setitimer(signal.ITIMER_PROF, seconds)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# --- damage


def damaged_json(rng, contents):
    """One value, key or place of it changed."""
    places = []

    def walk(value):
        for key, own in list(value.items() if isinstance(value, dict) else enumerate(value)):
            places.append((value, key))
            if isinstance(own, dict | list):
                walk(own)

    walk(contents)
    if not places:
        return copy.deepcopy(rng.choice(VALUES))
    holder, key = rng.choice(places)
    how = rng.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice([key + "x", key.upper(), "", "model_type", "dtype", "num_labels"])] = holder.pop(key)
    elif how == 2:
        other, there = rng.choice(places)
        holder[key], other[there] = copy.deepcopy((other[there], holder[key]))  # no rings
    elif how == 3:
        holder[key] = [holder[key]] * rng.choice([1, 2, 20])
    elif how == 4 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * rng.choice([-1, 0, 2, 10, 1e6, 10**12]) + rng.choice([0, 1, -1, 0.5])
    elif how == 5 and isinstance(holder[key], str):
        holder[key] = damaged_bytes(rng, holder[key].encode(errors="replace")).decode("latin-1")
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    return contents


def damaged_bytes(rng, data):
    """A few bytes flipped, inserted, repeated, cut out or cut off."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        at, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 8, 100])
        how = rng.randrange(6)
        if how == 0:
            del data[at:]
        elif how == 1:
            del data[at : at + length]
        elif how == 2:
            data[at:at] = rng.randbytes(length)
        elif how == 3:
            data[at:at] = data[at : at + length]
        elif at < len(data):
            data[at] = rng.randrange(256) if how == 4 else data[at] ^ 1 << rng.randrange(8)
    return bytes(data)


def dumped(contents):
    return json.dumps(contents).encode()


def damaged(rng, name, data):
    """A file of that name with something wrong, most often deep inside."""
    if rng.random() < 0.2:
        return damaged_bytes(rng, data)
    header, rest = data, b""
    if name.endswith(".safetensors"):
        size = int.from_bytes(data[:8], "little")
        header, rest = data[8 : 8 + size], data[8 + size :]
        if rng.random() < 0.3:
            return data[: 8 + size] + damaged_bytes(rng, rest)
    contents = json.loads(header)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if not isinstance(contents, dict | list):
            break
        contents = damaged_json(rng, contents)
    text = dumped(contents)
    return len(text).to_bytes(8, "little") + text + rest if name.endswith(".safetensors") else text


# --- checkpoints


def write(folder, model, family):
    posterior = Posterior.initialise(select_parameters(model), PosteriorConfig(family=family))
    model.save_pretrained(folder)
    save_posterior(folder, model, posterior, StoredPosterior(PosteriorConfig(family=family), 24, 0.1))
    probs = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    bins = reliability_bins(probs / probs.sum(1, keepdim=True), torch.arange(20) % 3)
    metrics = {"predictive": {"accuracy": 0.9, "nll": 0.3}, "mean": {"accuracy": 0.9, "nll": 0.4}}
    both = {"predictive": bins, "mean": bins}
    figures = [{"num_samples": 1, "nll": 0.5}, {"num_samples": 4, "nll": 0.3}]
    write_figures(folder, [Evaluation("u/d", 20, 4, 0, metrics, "test", None, 15, figures, both)])
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    base = tiny_vit()
    base.save_pretrained(root / "base")
    base.name_or_path = str(root / "base")
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    return {
        "whole": write(root / "whole", tiny_vit(), "low_rank"),
        "adapter": write(root / "adapter", get_peft_model(base, lora), "block_diagonal"),
    }


@pytest.fixture(autouse=True)
def quiet():
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.enable_progress_bar()
    logging.set_verbosity(level)


def put(path, data):
    """Write a file anew: to one that is emptied first, some file systems write through to the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def agree(folder):
    """Let the recorded hashes be those of the files, so that what comes after that check is reached."""
    path = folder / "posterior_config.json"
    contents = json.loads(path.read_text())
    for table in ("mean_sha256", "posterior_sha256"):
        contents[table] = {name: sha256(folder / name) for name in contents[table]}
    put(path, dumped(contents))
    figures = folder / "calibration.json"
    tables = {table: contents[table] for table in ("mean_sha256", "posterior_sha256")}
    put(figures, dumped(json.loads(figures.read_text()) | tables))


def fuzz(folder, name, number, load):
    """Damage a file so many times, and load; gives how often that succeeded."""
    changed = {name} | ({"posterior_config.json", "calibration.json"} if name.endswith(".safetensors") else set())
    files = {folder / own: (folder / own).read_bytes() for own in changed}
    path, loaded = folder / name, 0
    with bounds() as clock:
        for seed in range(number * MANY):
            rng = random.Random(f"{folder.name} {name} {seed}")
            try:
                put(path, damaged(rng, name, files[path]))
                if name.endswith(".safetensors"):
                    agree(folder)
                clock()
                load()
                loaded += 1
            except PosteriorCheckpointError as error:
                if any(word in str(error) for word in ("allocate", "MemoryError", "\n")):
                    pytest.fail(f"case {seed} of {name}: {error}")
            except BaseException as error:
                raise AssertionError(f"case {seed} of {name}: {type(error).__name__}: {error}") from error
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                for other, data in files.items():
                    put(other, data)
    load()  # it was the damage
    return loaded


@pytest.mark.parametrize("name", ["posterior_config.json", "posterior.safetensors"])
def test_posteriors(checkpoints, name):
    model = tiny_vit()
    assert 0 < fuzz(checkpoints["whole"], name, 400, lambda: load_posterior(checkpoints["whole"], model)) < 320 * MANY


def test_figures(checkpoints):
    folder = checkpoints["whole"]
    assert 0 < fuzz(folder, "calibration.json", 2000, lambda: read_evaluations(folder)) < 1500 * MANY


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("whole", "config.json"),
        ("whole", "model.safetensors"),
        ("whole", "posterior_config.json"),
        ("whole", "posterior.safetensors"),
        ("adapter", "adapter_config.json"),
        ("adapter", "adapter_model.safetensors"),
        ("adapter", "posterior_config.json"),
    ],
)
def test_whole_checkpoints(checkpoints, kind, name):
    folder = checkpoints[kind]
    assert 0 < fuzz(folder, name, 60, lambda: BayesianModel.from_pretrained(folder)) < 60 * MANY
