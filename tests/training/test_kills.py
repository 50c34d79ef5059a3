"""
Runs that are killed at random, again and again, in one process, under DDP and with LoRA, also into a folder that holds
the checkpoints of another run. `KILLS=100 python -m pytest tests/training/test_kills.py` kills so many.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from hf_scorevi.hub import read_checkpoint
from hf_scorevi.training.checkpoint_folders import last_checkpoint, recover
from tests.processes import launch
from tests.tiny_models import arguments, images, tiny_vit

STEPS = (2, 4, 6)
KINDS = ("single", "ddp", "lora")
BEST = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "metric_for_best_model": "nll"}
# The worst counts as the best, so that it is not the last.
POLICIES = {
    "all": {},
    "newest": {"save_total_limit": 2},
    "best": {**BEST, "greater_is_better": True, "save_total_limit": 1},
}
# The system calls on files that Python tells of, before it makes them.
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock"}
TENSORS = ("model.safetensors", "adapter_model.safetensors", "posterior.safetensors", "score_vi_state.safetensors")


@pytest.mark.slow
def test_killed_runs_resume_bit_for_bit_and_lose_nothing():
    kills = os.environ.get("KILLS", "6")
    ended = launch(__file__, kills, seconds=120 * int(kills))
    assert ended.codes == [0], ended.output[-3000:]
    found = json.loads(ended.output.splitlines()[-1])
    assert found["runs"] == int(kills)
    assert found["killed"] > 0.7 * found["runs"]  # some are to die after a time, and may have ended before


@dataclass
class Run:
    """
    A run in forked processes, of `learning_rate` to tell it from others; `death` is the event it dies before, and
    `limited` whether it deletes checkpoints.
    """

    folder: Path
    kind: str = "single"
    policy: str = "all"
    learning_rate: float = 0.02
    resume: bool = False
    limited: bool = True
    death: int | None = None

    def trainer(self) -> ScoreVITrainer:
        model = tiny_vit(hidden_dropout_prob=0.1)
        if self.kind == "lora":
            model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"]))
        settings = {"max_steps": STEPS[-1], "save_strategy": "steps", "save_steps": 2, "curvature_interval": 2}
        settings |= {"per_device_train_batch_size": 3 if self.kind == "ddp" else 6, "eval_num_samples": 2}
        settings |= POLICIES[self.policy] | ({} if self.limited else {"save_total_limit": None})
        return ScoreVITrainer(
            model,
            arguments(self.folder, **settings, learning_rate=self.learning_rate),
            train_dataset=images(18),
            eval_dataset=images(6, seed=1),
            posterior_config=PosteriorConfig(init_std=0.05),
        )

    def work(self, result: Path) -> None:
        """Train, and leave the final state, and how many events there were, in `result`."""
        trainer, events = self.trainer(), 0

        def count(event: str, *_) -> None:
            nonlocal events
            if event in EVENTS and trainer.is_world_process_zero():
                events += 1
                if events == self.death:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        trainer.train(resume_from_checkpoint=self.resume or None)
        if trainer.is_world_process_zero():
            state = {f"mean.{name}": value.contiguous() for name, value in trainer.model.state_dict().items()}
            state |= {f"precision.{name}": value for name, value in trainer.posterior.precision.items()}
            state |= {f"state.{name}": value for name, value in trainer.update.state_dict().items()}
            save_file(state, result, metadata={"events": str(events)})

    def start(self, result: Path) -> list[int]:
        """The processes that have begun to work."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        processes = []
        for rank in range(2 if self.kind == "ddp" else 1):
            if pid := os.fork():
                processes.append(pid)
                continue
            code = 1
            try:
                if self.kind == "ddp":
                    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
                    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                log = os.open(result.with_suffix(f".{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1)
                os.dup2(log, 2)
                self.work(result)
                code = 0
            finally:
                if code:
                    sys.excepthook(*sys.exc_info())
                    sys.stderr.flush()
                os._exit(code)
        return processes

    def finish(self, result: Path) -> dict[str, torch.Tensor]:
        """Let it end by itself."""
        codes = [os.waitpid(pid, 0)[1] for pid in self.start(result)]
        assert not any(codes), result.with_suffix(".0.log").read_text()[-3000:]
        return load_file(result)

    def killed(self, result: Path, after: float) -> bool:
        """
        Start it, and kill all its processes after so many seconds, or when its first dies by itself; whether the first
        was killed rather than at its end.
        """
        first, *others = self.start(result)
        end, (dead, status) = time.monotonic() + after, (0, 0)
        while not dead and time.monotonic() < end:
            time.sleep(0.002)
            dead, status = os.waitpid(first, os.WNOHANG)
        if not dead:
            os.kill(first, signal.SIGKILL)
            _, status = os.waitpid(first, 0)
        for pid in others:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (-signal.SIGKILL, 0), result.with_suffix(".0.log").read_text()[-3000:]
        return code != 0


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    read_checkpoint(checkpoint)  # posterior and mean belong together
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
    found = [checkpoint / name for name in TENSORS if (checkpoint / name).exists()]
    assert len(found) == 3
    return {f"{path.name}.{key}": value for path in found for key, value in load_file(path).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def steps_in(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*")}


class Trials:
    """Runs that nobody killed, and what others that were must agree with."""

    def __init__(self, home: Path) -> None:
        self.home, self.killed = home, 0
        self._known: dict[tuple[str, str, float, bool], tuple[dict[str, torch.Tensor], Path, float, int]] = {}

    def uninterrupted(
        self, kind: str, policy: str, rate: float, limited: bool = True
    ) -> tuple[dict[str, torch.Tensor], Path, float, int]:
        """The final state, the folder, the seconds it took, and how many events there were."""
        key = kind, policy, rate, limited
        if key not in self._known:
            folder = self.home / f"{kind}-{policy}-{rate}-{limited}"
            result, begin = folder.with_name(f"{folder.name}.safetensors"), time.monotonic()
            state = Run(folder, kind, policy, rate, limited=limited).finish(result)
            seconds = time.monotonic() - begin
            with safe_open(result, "pt") as file:
                self._known[key] = state, folder, seconds, int(file.metadata()["events"])
        return self._known[key]

    def run(self, number: int) -> str:
        """One kill, and what it was."""
        chance = random.Random(number)
        kind, second = KINDS[number % 3], bool(number // 3 % 2)
        policy = chance.choice(list(POLICIES))
        rate, other = 0.02, 0.005
        final, reference, seconds, events = self.uninterrupted(kind, policy, rate)
        folder, result = self.home / f"trial-{number}", self.home / f"trial-{number}.safetensors"
        before: set[int] = set()
        if second:
            shutil.copytree(self.uninterrupted(kind, policy, other)[1], folder)
            before = steps_in(folder)
        run = Run(folder, kind, policy, rate)

        def written_by(learning_rate: float) -> set[int]:
            return {step for step in steps_in(folder) if self.is_of(kind, policy, learning_rate, folder, step)}

        by_event = chance.random() < 0.7
        if by_event:
            run.death = chance.randrange(1, events + 1)
        after = chance.uniform(0, 1.1 * seconds)
        killed = run.killed(result, 60 if by_event else after)
        self.killed += killed
        what = f"{kind}, {policy}, {'second' if second else 'first'} run, "
        what += f"event {run.death} of {events}" if by_event else f"after {after:.2f} of {seconds:.2f} s"
        assert killed or not by_event, what
        # Whatever moment it was: what stands is whole, of the one run or of the other, and nothing is lost.
        recover(folder)
        assert not list(folder.glob("incomplete-*")), what
        ours, theirs = written_by(rate), written_by(other)
        assert ours | theirs == steps_in(folder), what
        if policy == "all":
            assert before <= steps_in(folder), what
            assert ours == set(STEPS[: len(ours)]), what
        if before:
            assert steps_in(folder), what
        if ours:
            assert last_checkpoint(folder) == str(folder / f"checkpoint-{max(ours)}"), what
        resumed = Run(folder, kind, policy, rate, resume=bool(ours))
        assert same(resumed.finish(result), final), what
        assert steps_in(folder) == steps_in(reference), what
        assert written_by(rate) == steps_in(folder), what
        assert not list(folder.glob("incomplete-*")), what
        shutil.rmtree(folder)
        return what

    def is_of(self, kind: str, policy: str, rate: float, folder: Path, step: int) -> bool:
        """Whether it is the checkpoint of that run."""
        name = f"checkpoint-{step}"
        return same(tensors(folder / name), tensors(self.uninterrupted(kind, policy, rate, limited=False)[1] / name))


def main() -> None:
    kills = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as home:
        trials = Trials(Path(home))
        for number in range(kills):
            print(number, trials.run(number), flush=True)
    print(json.dumps({"runs": kills, "killed": trials.killed}))


if __name__ == "__main__":
    main()
