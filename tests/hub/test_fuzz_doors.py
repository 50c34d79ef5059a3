"""
Every file of a checkpoint, damaged or put in by a stranger, through every door of the library: it works or is refused
by an error of the library's own, soon, in little memory, and nothing outside of the folder is read, written or sent.

A few dozen cases run with the other tests. `FUZZ_DOORS=10000 pytest tests/hub/test_fuzz_doors.py` tries so many, and
`FUZZ_FROM=3000` begins at that one; a failure names its case. `python -m tests.hub.test_fuzz_doors FROM TO` tries them
all, and prints those that fail.
"""

import collections
import contextlib
import io
import json
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import ViTImageProcessorPil, pipeline
from transformers.utils import logging

import hf_scorevi.pipelines  # noqa: F401  (registers its tasks)
from hf_scorevi import BayesianModel, errors
from hf_scorevi.cli import main
from hf_scorevi.hub import push_checkpoint, write_card
from hf_scorevi.time_series import SeriesProcessor
from tests.forecasters import tiny_koopa
from tests.hub.test_fuzz import TookTooLong, agree, damaged, damaged_bytes, write
from tests.hub_server import HubServer, online
from tests.tiny_models import tiny_vit

resource = pytest.importorskip("resource")
if not Path("/proc/self/statm").exists():
    pytest.skip("needs Linux, to bound memory", allow_module_level=True)

CASES, FIRST = int(os.environ.get("FUZZ_DOORS", "28")), int(os.environ.get("FUZZ_FROM", "0"))
SECONDS, BYTES = 20, 2 << 30
SECRET = b"a key that is nobody's business"
REPO = "user/fuzzed"
CARD = (
    "---\nlicense: mit\ntags: &t [a, b]\nother: *t\ndate: 2024-01-01\nmodel-index:\n- name: m\n  results:\n"
    "  - task: {type: x}\n    dataset: {name: a, type: b}\n    metrics:\n    - {type: acc, value: 0.5}\n"
    "---\n# t\n\nmine\n"
)


class Refused(Exception):
    """By an error of the library's own."""


# --- checkpoints


def make(root):
    """A classifier, an adapter over a base of several files, and a forecaster, with all that may lie beside them."""
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    base = tiny_vit(num_channels=3)
    base.save_pretrained(root / "base", max_shard_size="4KB")
    base.name_or_path = str(root / "base")
    lora = LoraConfig(r=2, target_modules=r".*\.q_proj", modules_to_save=["classifier"], rank_pattern={"0.+q_proj": 1})
    folders = {
        "whole": write(root / "whole", tiny_vit(num_channels=3), "low_rank"),
        "adapter": write(root / "adapter", get_peft_model(base, lora), "isotropic"),
        "forecaster": write(root / "forecaster", tiny_koopa(), "diagonal"),
    }
    (root / "whole" / "generation_config.json").write_text('{"max_new_tokens": 3}')
    for kind in ("whole", "adapter"):
        processor.save_pretrained(folders[kind])
    path = folders["forecaster"] / "posterior_config.json"
    likelihood = {"kind": "gaussian", "loss_scale": 1.0, "noise_variance": [0.1, 0.2]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"likelihood": likelihood}))
    SeriesProcessor(["a", "b"], [0.0, 1.0], [1.0, 2.0]).save_pretrained(folders["forecaster"])
    for folder in folders.values():
        (folder / "README.md").write_text(CARD)
    for name in ("LABEL_0", "LABEL_1"):
        (root / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / "photos" / name / "a.png")
    (root / "secret").write_bytes(SECRET)
    return folders


def is_whole(path):
    """Whether it is a file that is not damaged so far that it cannot be read."""
    return stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size < 1 << 20


def damage(rng, folder, base, secret):
    """Make something of a file that is damaged or hostile, and say what was done."""
    place = base if folder.name == "adapter" and rng.random() < 0.2 else folder
    path = rng.choice(sorted(path for path in place.iterdir() if path.suffix != ".png" and is_whole(path)))
    what = rng.random()
    if what < 0.08:
        kind = rng.choice(["pipe", "zero", "folder", "nowhere", "loop", "secret", "missing", "huge"])
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "huge":
            with path.open("wb") as file:
                file.truncate(3 << 30)
        elif kind != "missing":
            path.symlink_to({"zero": "/dev/zero", "nowhere": "/no/where", "loop": path, "secret": secret}[kind])
        return f"{path.name} {kind}"
    if what < 0.12:
        name = rng.choice(
            [".README.md.tmp", "vocab.txt", "x", "reliability.png", "README.local.md", "model-1.safetensors"]
        )
        target = rng.choice(
            [secret, secret.parent, Path("."), Path("config.json"), Path("/dev/zero"), Path("/no/where")]
        )
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        return f"{name} -> {target}"
    data = path.read_bytes()
    if path.suffix in (".json", ".safetensors"):
        path.write_bytes(damaged(rng, path.name, data))
        if path.suffix == ".safetensors" and place is folder:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # of an earlier damage
                agree(folder)
        return path.name
    bombs = [
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{c}: &{c} [{', '.join('*' + p for _ in range(9))}]\n"
            for p, c in zip("abcdefgh", "bcdefghi", strict=False)
        ),
        *(
            "x: &x [*x]\n",
            "x: {<<: &y {<<: *y}}\n",
            f"x: {'[' * 2000}\n",
            f"x: 1{':1' * 9000}\n",
            "x: 0x" + "f" * 9000 + "\n",
        ),
        *(
            "tags: !!python/name:os.system\n",
            "model-index: 3\n",
            "tags: {a: b}\n",
            "date: 2024-13-45\n",
            "{: [\n",
            "? {a: b}\n: c\n",
        ),
    ]
    if rng.random() < 0.4:
        path.write_bytes(data.replace(b"license: mit\n", rng.choice(bombs).encode()))
    else:
        path.write_bytes(damaged_bytes(rng, data))
    return path.name


# --- doors


def load(folder, root):
    model = BayesianModel.from_pretrained(folder)
    if folder.name == "forecaster":
        model.forecast(past_values=torch.zeros(1, 16, 2), num_samples=2, seed=0)
    else:
        model.predict(pixel_values=torch.zeros(1, 3, 8, 8), num_samples=2, seed=0)


def card(folder, root):
    write_card(folder)


def command(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main([str(own) for own in arguments])
    if status:
        assert status == 1 and "error: " in said.getvalue(), said.getvalue()
        raise Refused(said.getvalue())


def cli_card(folder, root):
    command("card", folder, "--repo-id", REPO)


def cli_evaluate(folder, root):
    command("evaluate", folder, "--dataset", root / "photos", "--use-cpu", "--num-samples", 2, "--update-card")


def cli_calibrate(folder, root):
    command("calibrate", folder, "--dataset", root / "photos", "--use-cpu", "--num-samples", 2)


def pipe(folder, root):
    if folder.name == "forecaster":
        pipeline("forecasting", model=str(folder))([[0.0, 1.0]] * 16, num_samples=2)
    elif folder.name == "adapter":
        model, processor = BayesianModel.from_pretrained(folder), ViTImageProcessorPil(size={"height": 8, "width": 8})
        pipeline("image-classification", model=model, image_processor=processor)(Image.new("RGB", (8, 8)))
    else:
        pipeline("bayesian-image-classification", model=str(folder))(Image.new("RGB", (8, 8)), num_samples=2)


def push(folder, root):
    push_checkpoint(folder, REPO)


DOORS = [load, card, cli_card, cli_evaluate, cli_calibrate, pipe, push]


class Fuzzer:
    """Tries cases by their numbers, on checkpoints below `root`."""

    def __init__(self, root, hub):
        self.root, self.hub = root, hub
        self.folders = make(root / "made")
        self.counts = collections.Counter()

    def try_case(self, number):
        """What went wrong with this case, if anything did."""
        rng = random.Random(f"doors {number}")
        root = self.root / "case"
        shutil.copytree(self.root / "made", root)
        door, folder = DOORS[number % len(DOORS)], root / rng.choice(sorted(self.folders))
        if folder.name == "forecaster" and door in (cli_evaluate, cli_calibrate):
            folder = root / "whole"
        if folder.name == "adapter":
            path = folder / "adapter_config.json"
            path.write_text(path.read_text().replace(str(self.root / "made" / "base"), str(root / "base")))
        what, problem = "", None
        try:
            for _ in range(rng.choice([1, 1, 1, 2])):
                with contextlib.suppress(OSError, ValueError, TypeError):  # of what is damaged already
                    what += " " + damage(rng, folder, root / "base", root / "secret")
            began, beside = time.monotonic(), sorted(os.listdir(root))
            problem = self._enter(door, folder, root)
            took = time.monotonic() - began
            if not problem and took > 3 * SECONDS:  # of waiting; computing is bounded by `_enter`
                problem = f"took {took:.0f} s"
            if (root / "secret").read_bytes() != SECRET or sorted(os.listdir(root)) != beside:
                problem = "wrote outside"
            if any(SECRET in data for data in self._sent()):
                problem = "sent a secret"
        finally:
            shutil.rmtree(root)
        return problem and f"case {number}, {door.__name__} of {folder.name},{what}: {problem}"

    def _enter(self, door, folder, root):
        def stop(*_):
            raise TookTooLong

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits = resource.getrlimit(resource.RLIMIT_AS)
        before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)  # other processes may have the machine
        try:
            door(folder, root)
        except TookTooLong:
            return f"took too long: {traceback.format_exc()[-1500:]}"
        except BaseException as error:
            own = isinstance(error, Refused) or type(error).__module__ in (
                errors.__name__,
                "hf_scorevi.pipelines.loading",
            )
            if not own or any(word in str(error) for word in ("allocate", "MemoryError", SECRET.decode())):
                return f"{type(error).__name__}: {str(error)[:300]}\n{traceback.format_exc()[-1500:]}"
            self.counts[door.__name__, "refused"] += 1
            return None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, limits)
            for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
                signal.signal(number, handler)
        self.counts[door.__name__, "worked"] += 1
        return None

    def _sent(self):
        found = self.hub.repos.pop(REPO, None)
        return [] if found is None else [blob.data for blob in found.find("main").tree.values()]


@contextlib.contextmanager
def quiet():
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.enable_progress_bar()
    logging.set_verbosity(level)


def test_every_file_through_every_door(tmp_path):
    with HubServer() as hub, online(hub, tmp_path / "home"), quiet():
        fuzzer = Fuzzer(tmp_path, hub)
        problems = [found for i in range(FIRST, FIRST + CASES) if (found := fuzzer.try_case(i))]
    assert not problems, "\n".join(problems)
    for what in ("refused", "worked"):
        assert sum(count for (_, own), count in fuzzer.counts.items() if own == what) > CASES / 10


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home, HubServer() as hub, online(hub, Path(home) / "home"), quiet():
        fuzzer, began = Fuzzer(Path(home), hub), time.monotonic()
        for i in range(int(sys.argv[1]), int(sys.argv[2])):
            if found := fuzzer.try_case(i):
                print(found, flush=True)
            if i % 100 == 99:
                print(f"{i + 1} cases, {time.monotonic() - began:.0f} s, {dict(fuzzer.counts)}", flush=True)
