"""
The folder of a run: its checkpoints are whole whenever a process dies, and whoever else writes there.

A checkpoint is written in a *workspace*, a folder beside the others, and moved to its name when it is on disk. One
that has the name already is kept in the workspace until then. A workspace is locked as long as its process lives: what
a dead one has left is put right by whoever writes there next.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

try:
    import fcntl

    _LOCKS = True
except ImportError:  # Windows: what a killed run leaves has to be deleted by hand
    _LOCKS = False

__all__ = [
    "RUN",
    "STATE_NAME",
    "checkpoint_name",
    "last_checkpoint",
    "next_run",
    "publish",
    "recover",
    "rotate",
    "workspace",
    "workspace_name",
]

STATE_NAME = "score_vi_state.safetensors"
# In the header of that file: which of the runs into its folder has written a checkpoint, counted from 1.
RUN = "run"

# Begins the names of workspaces; those of checkpoints begin otherwise.
_INCOMPLETE = f"incomplete-{PREFIX_CHECKPOINT_DIR}-"
_LOCK, _REPLACED = "lock", "replaced"
# Tries to lock a new workspace, which another run may take for a dead one before it is locked.
_TRIES, _PAUSE = 10, 0.01


def checkpoint_name(step: int) -> str:
    """Return the name of the checkpoint after `step` steps."""
    return f"{PREFIX_CHECKPOINT_DIR}-{step}"


def last_checkpoint(run_dir: str | os.PathLike[str]) -> str | None:
    """
    Return the checkpoint in `run_dir` to resume from: that of the most steps of the run that wrote there last, whose
    numbers may be smaller than those of an earlier run. `None` if there is none.

    A folder without a trainer's state is none: `enable_jit_checkpoint` makes one to mark that it has begun to write.
    """
    checkpoints = [path for path in _checkpoints(Path(run_dir)) if (path / TRAINER_STATE_NAME).is_file()]
    return str(checkpoints[-1]) if checkpoints else None


def next_run(run_dir: Path) -> int:
    """Return the number of a run that begins to write into `run_dir`."""
    return 1 + max(map(_run, _checkpoints(run_dir)), default=0)


def workspace_name(step: int) -> str:
    """Return the name of a new workspace; all processes of a run have to agree on it."""
    return f"{_INCOMPLETE}{step}-{uuid4().hex[:12]}"


@contextmanager
def workspace(run_dir: Path, name: str) -> Iterator[Path]:
    """Make a folder of that name in `run_dir`, locked; at the end its contents are put back or deleted."""
    recover(run_dir)
    path = run_dir / name
    for _ in range(_TRIES if _LOCKS else 1):
        path.mkdir(parents=True, exist_ok=True)
        if (lock := _lock(path)) is not None:
            break
        time.sleep(_PAUSE)
    try:
        yield path
    finally:
        _clear(path)
        if lock is not None:
            os.close(lock)


def recover(run_dir: Path) -> None:
    """Put back what killed runs were about to replace in `run_dir`, and delete what else they have left."""
    for left in sorted(run_dir.glob(f"{_INCOMPLETE}*")):
        if left.is_dir() and not left.is_symlink() and (lock := _lock(left)) is not None:
            try:
                _clear(left)
            finally:
                os.close(lock)


def publish(folder: Path, final: Path) -> None:
    """
    Move a complete `folder` of a workspace to its name, on disk too. One that has that name already, of an earlier run
    or of one that writes at the same time, is deleted once the new one stands.
    """
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)
    replaced = folder.parent / _REPLACED / final.name
    while not _moved(folder, final):
        _delete(replaced, folder.parent)  # another run has put its own there meanwhile
        replaced.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another run has taken it away
            os.rename(final, replaced)
    _flush(final.parent)
    _delete(replaced, folder.parent)


def rotate(run_dir: Path, limit: int | None, keep: Iterable[str | None], workspace: Path) -> None:
    """Delete the oldest checkpoints in `run_dir` beyond `limit`, sparing `keep`: those of earlier runs go first."""
    if not limit or limit < 1:
        return
    spared = {Path(folder).resolve() for folder in keep if folder is not None}
    checkpoints = _checkpoints(run_dir)
    excess = len(checkpoints) - max(limit, len(spared))
    for folder in [folder for folder in checkpoints if folder.resolve() not in spared][: max(excess, 0)]:
        _delete(folder, workspace)


def _checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a folder, from the oldest to the newest."""
    numbered = []
    for path in run_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if step.isascii() and step.isdecimal() and path.is_dir():
            numbered.append((_run(path), int(step), path))
    return [path for *_, path in sorted(numbered)]


def _run(checkpoint: Path) -> int:
    """Return the number of the run that wrote a checkpoint, 0 if that is not recorded."""
    try:
        with safe_open(checkpoint / STATE_NAME, "pt") as state:
            return int((state.metadata() or {}).get(RUN, 0))
    except (OSError, SafetensorError, ValueError):
        return 0


def _moved(folder: Path, final: Path) -> bool:
    """Move `folder` to `final`, and return whether it could be: not if something is there."""
    try:
        os.rename(folder, final)
    except OSError as error:
        if os.path.lexists(final) or error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def _delete(path: Path, workspace: Path) -> None:
    """Delete a file or folder, its name first: a checkpoint that is half deleted must not look like one."""
    doomed = workspace / f"deleted-{uuid4().hex}"
    try:
        os.rename(path, doomed)
    except FileNotFoundError:
        return  # there is none, or another run was quicker
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        doomed.unlink(missing_ok=True)


def _clear(workspace: Path) -> None:
    """Put back what was to be replaced, if nothing has taken its place; delete the rest."""
    replaced = workspace / _REPLACED
    for path in replaced.glob("*"):
        final = workspace.parent / path.name
        if not os.path.lexists(final):
            with suppress(OSError):  # another run was quicker
                os.rename(path, final)
    _delete(replaced, workspace)
    shutil.rmtree(workspace, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """
    Return a descriptor that keeps `folder` from others until it is closed, by the end of the process at the latest.
    `None` if somebody else has it, if it is gone, or if the file system has no locks.
    """
    if not _LOCKS:
        return None
    path = folder / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # not one that was deleted meanwhile
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _flush(path: Path) -> None:
    """Ask for a file or folder to reach the disk, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
