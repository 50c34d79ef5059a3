"""
What is asked of a Hub, and when: with an end to every wait, and not at all while a model is built from a description.

huggingface_hub has one client for the whole process, which waits for ever. The hooks that are put on it here do
nothing outside of `asking` and `without_network` of the same thread.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import CommitOperationAdd, set_client_factory
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import _http, httpx  # type: ignore[attr-defined]

from ..errors import PosteriorCheckpointError

__all__ = ["Addition", "NoAnswerError", "asking", "without_network"]

# Seconds without a byte, after which nothing is expected any more. The Hub's own gateway gives up after 60.
SILENCE = 45.0
# Bytes a second, fewer than which are silence too.
PACE = 100
# Of an answer that is no file, and of requests in all, of which a repository of 10⁵ files needs some hundred.
_MOST_BYTES, _MOST_REQUESTS = 64 << 20, 5000
_CACHE_NAMES = ("etag", "x-linked-etag", "x-repo-commit")  # which name files of the cache

_lock = threading.Lock()


class NoAnswerError(TimeoutError):
    """The Hub has been silent for too long, or would go on for ever. No client tries that again by itself."""


@dataclass
class _Talk:
    """What one push or one download has asked so far."""

    requests: int = 0


_talk: ContextVar[_Talk | None] = ContextVar("_talk", default=None)
_closed: ContextVar[bool] = ContextVar("_closed", default=False)


@contextmanager
def asking() -> Iterator[None]:
    """
    Let every wait for the Hub inside the `with` end: by an answer, or by a `NoAnswerError`, which is an `OSError`.
    """
    _watch_client()
    token = _talk.set(_talk.get() or _Talk())
    try:
        yield
    finally:
        _talk.reset(token)


@contextmanager
def without_network(path: Path) -> Iterator[None]:
    """
    Let no Hub be asked inside the `with`, whatever the file at `path` makes a library do.

    Raises:
        PosteriorCheckpointError: one would have been.
    """
    _watch_client()
    token = _closed.set(True)
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise PosteriorCheckpointError(
            f"{path} names another repository, or code there, which would have to be fetched ({error}). A model is "
            "built from its own checkpoint alone: save it with everything in its own config.json, such as a "
            "backbone's backbone_config."
        ) from error
    finally:
        _closed.reset(token)


class Addition(CommitOperationAdd):
    """A file of a commit. huggingface_hub uploads several in threads of its own, where `asking` has to hold too."""

    def __init__(self, path_in_repo: str, path: Path) -> None:
        self._own_talk = _talk.get()
        super().__init__(path_in_repo, str(path))

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        if _talk.get() is None:  # one of these threads, which ends with the uploads
            _talk.set(self._own_talk)
        with super().as_file(with_tqdm) as file:
            yield file


@dataclass
class _Watching:
    """Makes the clients that `factory` makes, with our hooks."""

    factory: Any

    def __call__(self) -> httpx.Client:
        client = self.factory()
        hooks = client.event_hooks
        client.event_hooks = {"request": [*hooks["request"], _before], "response": [*hooks["response"], _after]}
        return client


def _watch_client() -> None:
    with _lock:
        if not isinstance(_http._GLOBAL_CLIENT_FACTORY, _Watching):  # at first, and after somebody else's
            set_client_factory(_Watching(_http._GLOBAL_CLIENT_FACTORY))


def _before(request: httpx.Request) -> None:
    if _closed.get():
        raise OfflineModeIsEnabled(f"{request.method} {request.url}")
    if (talk := _talk.get()) is None:
        return
    talk.requests += 1
    if talk.requests > _MOST_REQUESTS:
        raise NoAnswerError(f"{request.url.host} was asked {_MOST_REQUESTS:,} times, and no end is in sight.")
    given = request.extensions.get("timeout") or {}
    if given.get("read") is None:  # one that is not bounded by huggingface_hub, as its downloads are
        request.extensions["timeout"] = {name: SILENCE for name in ("connect", "read", "write", "pool")}
        request.extensions["trace"] = _no_second_try
        request.extensions["is_small"] = True


def _no_second_try(event: str, info: dict[str, Any]) -> None:
    """The client tries again after a timeout, five times: after so long a one there is no sense in it."""
    if event.endswith(".failed") and "Timeout" in type(info["exception"]).__name__:
        raise NoAnswerError(
            f"The Hub has not answered for {SILENCE:g} seconds; what it was sent may have arrived all the same."
        ) from info["exception"]


def _after(response: httpx.Response) -> None:
    if _talk.get() is None:
        return
    headers = response.headers
    asked = [headers.get("retry-after", ""), *re.findall(r"\bt\s*=\s*(\d+)", headers.get("ratelimit", ""))]
    if response.status_code >= 400 and any(re.fullmatch(r"\s*[0-9]{4,}\s*", own) for own in asked):
        raise NoAnswerError("The Hub asks to be left alone for a thousand seconds or more. Try again later.")
    for name in _CACHE_NAMES:
        value = headers.get(name, "").removeprefix("W/").strip('"')
        if ".." in value or "\\" in value or value.startswith("/"):
            raise OSError(f"The answer from {response.url.host} has {name}: {value[:100]!r}, which is none.")
    most = _MOST_BYTES if response.request.extensions.get("is_small") else None
    response.stream = _Paced(response.stream, most)


class _Paced(httpx.SyncByteStream):
    """The body of an answer, which may not take for ever."""

    def __init__(self, stream: Any, most: int | None) -> None:
        self._stream, self._most = stream, most

    def __iter__(self) -> Iterator[bytes]:
        start, new, total = time.monotonic(), 0, 0
        for chunk in self._stream:
            new += len(chunk)
            total += len(chunk)
            if self._most is not None and total > self._most:
                raise NoAnswerError(f"The Hub's answer has more than {self._most:,} bytes, and is none.")
            if (passed := time.monotonic() - start) >= SILENCE:
                if new < PACE * passed:
                    raise NoAnswerError(f"The Hub has sent no more than {new:,} bytes in {passed:.0f} seconds.")
                start, new = time.monotonic(), 0
            yield chunk

    @property
    def elapsed(self) -> Any:
        return getattr(self._stream, "elapsed", None)  # which httpx asks for

    def close(self) -> None:
        self._stream.close()
