import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_scorevi.training import checkpoint_folders
from hf_scorevi.training.checkpoint_folders import (
    RUN,
    STATE_NAME,
    last_checkpoint,
    next_run,
    publish,
    recover,
    rotate,
    workspace,
    workspace_name,
)

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "fcntl.flock"}


def write(folder: Path, run: int, text: str = "") -> Path:
    """A checkpoint of two files and a folder."""
    (folder / "optimizer_0").mkdir(parents=True, exist_ok=True)
    (folder / "optimizer_0" / "part").write_text(text)
    save_file({"x": torch.zeros(1)}, folder / STATE_NAME, metadata={RUN: str(run)})
    for name in ("text", "trainer_state.json"):
        (folder / name).write_text(text)
    return folder


def whole(folder: Path) -> str:
    """What all the files of a checkpoint say."""
    assert (folder / STATE_NAME).is_file()
    (text,) = {(folder / name).read_text() for name in ("text", "trainer_state.json", "optimizer_0/part")}
    return text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(run_dir: Path, step: int, text: str, run: int = 1, limit: int | None = None) -> None:
    """As the trainer saves."""
    with workspace(run_dir, workspace_name(step)) as place:
        final = run_dir / f"checkpoint-{step}"
        publish(write(place / final.name, run, text), final)
        rotate(run_dir, limit, {str(final)}, place)


def killed_before(event: int, work) -> bool:
    """Whether a process was killed before so many operations on files; otherwise it has done its work."""
    if (pid := os.fork()) == 0:
        left, code = event, 1

        def count(name: str, *_) -> None:
            nonlocal left
            if name in EVENTS:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (-signal.SIGKILL, 0)
    return code != 0


def test_a_checkpoint_that_is_there_is_replaced(tmp_path):
    save(tmp_path, 4, "old")
    save(tmp_path, 4, "new", run=2)
    assert names(tmp_path) == ["checkpoint-4"]
    assert whole(tmp_path / "checkpoint-4") == "new"
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")


@pytest.mark.parametrize("limit", [None, 2])
def test_whenever_a_process_dies_what_stands_is_whole_and_nothing_is_lost(tmp_path, limit):
    """Before each of the operations by which a checkpoint is replaced and an old one deleted."""
    event, results = 0, []
    for step in (2, 4, 6):
        save(tmp_path / "old", step, f"old {step}")
    while True:
        event += 1
        run_dir = shutil.copytree(tmp_path / "old", tmp_path / str(event))  # saving waits for the disk
        killed = killed_before(event, lambda run_dir=run_dir: save(run_dir, 4, "new", run=2, limit=limit))
        for path in run_dir.glob("checkpoint-*"):  # even before anything is put right
            whole(path)
        recover(run_dir)
        kept = {name: whole(run_dir / name) for name in names(run_dir)}
        assert kept["checkpoint-4"] in ("old 4", "new")
        assert kept["checkpoint-6"] == "old 6"
        if limit is None or kept["checkpoint-4"] == "old 4":
            assert kept["checkpoint-2"] == "old 2"
        results.append(kept["checkpoint-4"])
        if not killed:
            break
    assert event > 20
    assert results == sorted(results, reverse=True)  # from old to new, once
    assert len(set(results)) == 2
    assert ("checkpoint-2" in kept) == (limit is None)


def test_whenever_putting_right_dies_it_can_be_done_again(tmp_path):
    event, killed = 0, True
    while killed:
        event += 1
        run_dir = tmp_path / str(event)
        left = run_dir / workspace_name(4)
        write(left / "checkpoint-4", 2, "new")
        write(left / "replaced" / "checkpoint-4", 1, "old")
        killed = killed_before(event, lambda run_dir=run_dir: recover(run_dir))
        recover(run_dir)
        assert names(run_dir) == ["checkpoint-4"]
        assert whole(run_dir / "checkpoint-4") == "old"
    assert event > 5


def test_what_fails_within_a_process_gives_back_what_was_there(tmp_path, monkeypatch):
    save(tmp_path, 4, "old")
    rename = os.rename

    def full(source, target):
        if Path(target) == tmp_path / "checkpoint-4" and "replaced" not in str(source) and not target.exists():
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(checkpoint_folders.os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 4, "new")
    assert names(tmp_path) == ["checkpoint-4"]
    assert whole(tmp_path / "checkpoint-4") == "old"


def test_a_run_leaves_alone_what_another_one_is_writing(tmp_path):
    """As long as that lives; of one that is dead nothing is left."""
    read, written = os.pipe()
    if (pid := os.fork()) == 0:
        with workspace(tmp_path, workspace_name(2)) as place:
            write(place / "checkpoint-2", 1, "theirs")
            os.write(written, b".")
            signal.pause()
    os.read(read, 1)
    try:
        save(tmp_path, 2, "ours")
        recover(tmp_path)
        (left,) = tmp_path.glob("incomplete-*")
        assert whole(left / "checkpoint-2") == "theirs"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    recover(tmp_path)
    assert names(tmp_path) == ["checkpoint-2"]
    assert whole(tmp_path / "checkpoint-2") == "ours"


def test_many_runs_at_once_into_one_folder(tmp_path):
    """Each saves each step; in the end every step stands, whole, of one of them."""
    pids = []
    for run in range(1, 5):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                for _ in range(5):
                    for step in (2, 4, 6):
                        save(tmp_path, step, f"of {run}", run)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0, 0]
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    for step in (2, 4, 6):
        assert whole(tmp_path / f"checkpoint-{step}").startswith("of ")


def test_the_last_checkpoint_is_that_of_the_run_that_wrote_last(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert next_run(tmp_path) == 1
    for step in (8, 10):
        save(tmp_path, step, "first")
    assert next_run(tmp_path) == 2
    save(tmp_path, 2, "second", run=2)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-12-copy").mkdir()
    write(tmp_path / "checkpoint-9", 0)  # of an earlier version
    (tmp_path / "checkpoint-14").mkdir()  # where one was about to be written
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert next_run(tmp_path) == 3


def test_of_old_checkpoints_those_of_earlier_runs_go_first(tmp_path):
    for step in (6, 8, 10):
        save(tmp_path, step, "first")
    for step in (2, 4):
        save(tmp_path, step, "second", run=2, limit=3)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-2", "checkpoint-4"]
    save(tmp_path, 6, "second", run=2, limit=3)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


def test_what_is_kept_is_known_under_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (2, 4, 6):
        save(tmp_path / "out", step, "")
    with workspace(tmp_path / "out", workspace_name(6)) as place:
        rotate(tmp_path / "out", 2, {"out/../out/checkpoint-2", None}, place)
    assert names(tmp_path / "out") == ["checkpoint-2", "checkpoint-6"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_whatever_has_the_name_makes_room_and_what_it_points_to_stays(tmp_path, kind):
    target, final = write(tmp_path / "elsewhere", 1, "theirs"), tmp_path / "out" / "checkpoint-4"
    final.parent.mkdir()
    if kind == "file":
        final.write_text("x")
    else:
        final.symlink_to(target if kind == "link" else tmp_path / "gone")
    save(tmp_path / "out", 4, "new")
    assert not final.is_symlink()
    assert whole(final) == "new"
    assert whole(target) == "theirs"
    assert names(tmp_path / "out") == ["checkpoint-4"]
