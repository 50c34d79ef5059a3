"""How `cost.py` measures: training runs that take turns, a stopwatch for a step's parts, memory by the byte."""

from __future__ import annotations

import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_scorevi.inference import PosteriorUpdate, ScoreStatistic
from hf_scorevi.posterior import GaussianPrior, Posterior

Step = tuple[float, dict[str, float]]  # its seconds, and those of its parts
Run = Callable[[Callable[[], None]], None]  # a training run, given what to call before each of its steps


class _Abandoned(Exception):
    """Ends a run because another one failed."""


def take_turns(runs: Sequence[Run]) -> None:
    """All runs, one step of each at a time: each has its thread, and one thread computes. Raises what a run raised."""
    turns = [threading.Semaphore(0) for _ in runs]
    errors: list[BaseException] = []

    def work(i: int) -> None:
        own, following = turns[i], turns[(i + 1) % len(turns)]

        def pause() -> None:
            following.release()
            own.acquire()
            if errors:
                raise _Abandoned

        own.acquire()
        try:
            if not errors:
                runs[i](pause)
        except BaseException as error:
            errors.append(error)
        following.release()

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(runs))]
    for thread in threads:
        thread.start()
    turns[0].release()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Stopwatch:
    """
    Times a step and, while `installed`, its parts: `draw` (the weights moved by noise, and put back), `prior` (its
    gradient), `statistic` and `precision` (both on curvature steps). On a GPU parts are times between events.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[tuple[str, Any, Any]] = []
        self._start = 0.0

    def start(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self._marks.clear()
        self._start = time.perf_counter()

    def stop(self) -> Step:
        """Seconds since the start, and of each part."""
        if self._cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._start
        parts: dict[str, float] = defaultdict(float)
        for name, start, end in self._marks:
            parts[name] += start.elapsed_time(end) / 1e3 if self._cuda else end - start
        return seconds, dict(parts)

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self._now()
            result = function(*args, **kwargs)
            self._marks.append((name, start, self._now()))
            return result

        return timed

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The library's functions are replaced by timed ones."""
        sampled = Posterior.sampled

        @contextmanager
        def timed_sampled(posterior: Posterior, seed: int, scale: float = 1.0) -> Iterator[Any]:
            with ExitStack() as stack:
                draw = self._timed("draw", stack.enter_context)(sampled(posterior, seed, scale))
                draw.flip_ = self._timed("draw", draw.flip_)
                yield draw
                self._timed("draw", stack.close)()

        parts = [(ScoreStatistic, name, "statistic") for name in ("before", "between", "after", "curvature")]
        parts += [(PosteriorUpdate, "step", "precision"), (GaussianPrior, "add_gradient_", "prior")]
        with ExitStack() as stack:
            for owner, name, part in parts:
                stack.enter_context(patch.object(owner, name, self._timed(part, getattr(owner, name))))
            stack.enter_context(patch.object(Posterior, "sampled", timed_sampled))
            yield


class StorageMeter(TorchDispatchMode):
    """
    Memory on a CPU: every storage that an operation inside the `with` returned, until it is freed; `peak` of the times
    that it was told to `watch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self._watching = True
        self.allocated = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        if self._watching:
            self.peak = max(self.peak, self.allocated)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.allocated += storage.nbytes()
            weakref.finalize(storage, self._remove, key).atexit = False

    def _remove(self, key: int) -> None:
        self.allocated -= self._sizes.pop(key)

    def watch(self, watching: bool) -> None:
        self._watching = watching


class AllocatorMeter:
    """Memory on a GPU, likewise: what torch's allocator gave out beyond what it had given out before."""

    def __enter__(self) -> AllocatorMeter:
        x = torch.ones(64, 64, device="cuda", requires_grad=True)
        (x @ x).sum().backward()  # so that cuBLAS has its workspaces, which are no part of a method's memory
        del x
        self._before, self.peak = torch.cuda.memory_allocated(), 0
        torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *error: Any) -> None: ...

    @property
    def allocated(self) -> int:
        return torch.cuda.memory_allocated() - self._before

    def watch(self, watching: bool) -> None:
        if not watching:
            self.peak = max(self.peak, torch.cuda.max_memory_allocated() - self._before)
        torch.cuda.reset_peak_memory_stats()
