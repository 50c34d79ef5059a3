"""
Files of a checkpoint's folder, which may be anybody's.

One rule each for all of them. Read are regular files, opened once and known to be no pipe or device before they are
read, up to a size. Written is a new file, which takes the place of what has its name: never through a link, and under
no name that can be foretold. Sent are files that lie in the folder, never what a link of it points to elsewhere.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from ..errors import InputError, PosteriorCheckpointError

__all__ = [
    "MAX_TEXT_BYTES",
    "is_there",
    "opened",
    "own_path",
    "read_bytes",
    "remedy",
    "remove",
    "write_aside",
]

# Of a file that is text, a JSON file for instance.
MAX_TEXT_BYTES = 16 << 20
_COMMIT, _HASH = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# So that opening waits for nobody, if it is a pipe after all.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def is_there(path: Path) -> bool:
    """
    Return whether the folder has something of that name, be it a link to nowhere: to be read, or to be complained of.
    """
    return os.path.lexists(path)


def remedy(path: Path) -> str:
    """
    Say what to do about a file that is damaged. The Hub's cache, which has links, would go on giving the same one.
    """
    if (blob := _blob(path)) is not None:
        return f"Delete {blob}, and it will be fetched again."
    return "Fetch or save the checkpoint again."


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """
    Open a regular file for reading.

    Raises:
        PosteriorCheckpointError: it is missing, or no regular file.
        OSError: the system does not let it be read.
    """
    try:
        _check_regular(os.stat(path), path)
        descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise PosteriorCheckpointError(_missing(path)) from error
        raise
    with open(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor), path)  # it may be another by now
        yield file


def read_bytes(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """
    Return the contents of a regular file.

    Raises:
        PosteriorCheckpointError: it is missing, or no regular file.
        ValueError: it has more than `most` bytes.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if max(size, len(data)) > most:
        raise ValueError(f"it has {max(size, len(data)):,} bytes, where at most {most:,} can be right")
    return data


def _check_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise PosteriorCheckpointError(
            f"{path} is {f'a link to {kind}' if path.is_symlink() else kind}, and cannot be read. {_replace(path)}"
        )


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to a file that is not there. {_replace(path)}"
    return f"{path} is missing. {remedy(path)}"


def _replace(path: Path) -> str:
    """Say what to do about something that is no file of the checkpoint's."""
    return f"Move {path} away, and fetch or save the checkpoint again."


def _blob(path: Path) -> Path | None:
    """
    Return the file that a link of the Hub's cache stands for, `snapshots/<commit>/… → blobs/<hash>`; `None` for
    others.
    """
    if not path.is_symlink():
        return None
    target, parts = Path(os.path.realpath(path)), path.absolute().parts
    for i in range(len(parts) - 2, 1, -1):
        if parts[i - 1] == "snapshots" and _COMMIT.fullmatch(parts[i]):
            blobs = Path(os.path.realpath(Path(*parts[: i - 1]))) / "blobs"
            return target if target.parent == blobs and _HASH.fullmatch(target.name) and target.is_file() else None
    return None


def write_aside(path: Path, write: Callable[[Path], Any]) -> None:
    """
    Let `write` make the file under a temporary name, then rename it: `path` is whole or untouched. If it is a link,
    the link is replaced, and what it points to stays as it is.

    Raises:
        InputError: there is a folder of that name.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    os.close(os.open(temporary, _NEW, 0o666))
    try:
        write(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace(new: Path, path: Path) -> None:
    """Give a file another name, which what has it now loses."""
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"{path} cannot be written: there is a folder of that name. Move it away, or delete it.")
    os.replace(new, path)


def remove(path: Path) -> None:
    """Delete a file or a link, not what it points to, and no folder."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)


def own_path(path: Path, folder: Path) -> Path:
    """
    Return where the contents of `path`, in or below `folder`, lie: within the folder, or among the blobs of the Hub's
    cache if it is of it. They may be shown to others.

    Raises:
        InputError: it is a link out of the folder, or one that leads nowhere, or no regular file.
    """
    if path.is_symlink() and _blob(path) is None:
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # a loop, up to Python 3.12
            raise InputError(f"{path} is a link that leads nowhere. Delete it.") from error
        if not target.is_relative_to(folder.resolve()):
            raise InputError(
                f"{path} is a link to {target}, outside of the folder, and what lies there is not sent. Put a copy "
                "into its place, or delete it."
            )
    else:
        target = Path(os.path.realpath(path))
    if not target.is_file():
        kind = "a folder" if target.is_dir() else "no regular file"
        raise InputError(f"{path} is {kind}, and cannot be sent. Move it away, or delete it.")
    return target
