"""Exceptions at any point of the library's code, as Ctrl-C may raise them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hf_scorevi

PACKAGE = str(Path(hf_scorevi.__file__).parent)


class Interrupted(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


def interrupted(call: Callable[[], Any], at: int, within: str = "") -> bool:
    """
    Make a call, and raise `Interrupted` before the `at`-th instruction in files of the library whose path contains
    `within`; returns whether there was one, which Python may have ignored (in a `__del__`).
    """
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        path = frame.f_code.co_filename
        if not path.startswith(PACKAGE) or within not in path:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            if count == at:
                sys.settrace(None)
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
    return count >= at
