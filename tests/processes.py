"""
Programs in processes of their own, one or several that work together as torchrun would start them.

They are forked from a process that has the libraries imported and has done nothing else, because importing takes a
process some seconds, and a test of training hardly one. tests/trainer/test_launch.py has the real launchers.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "pytest",
    "accelerate",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.state_dict",
    "transformers.trainer",
    "transformers.models.resnet.modeling_resnet",
    "transformers.models.vit.modeling_vit",
    "tests.forecasters",
    "tests.tiny_models",
)


@dataclass
class Ended:
    """Exit codes by rank, the negative number of a signal for one that it ended, and what all of them wrote."""

    codes: list[int]
    output: str


def launch(program: str, *arguments: str, processes: int = 1, seconds: int = 300) -> Ended:
    """Run a program to its end; when one process fails, or takes more than so many seconds, the others are killed."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log, socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        request = {"program": [program, *arguments], "processes": processes, "seconds": seconds, "log": log.name}
        request["port"] = found.getsockname()[1]
        found.close()
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        return Ended(json.loads(server.stdout.readline()), log.read())


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    atexit.register(server.communicate)  # it ends where its input does
    return server


def _serve() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        running = {}
        for rank in range(request["processes"]):
            pid = os.fork()
            if not pid:
                _become(request, rank)
            running[pid] = rank
        codes = [0] * len(running)
        while running:
            pid, status = os.wait()
            code = codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
            for other in running if code else ():
                os.kill(other, signal.SIGKILL)
        print(json.dumps(codes), flush=True)


def _become(request: dict, rank: int) -> None:
    code = 1
    signal.alarm(request["seconds"])
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND)
        for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
            os.dup2(file, stream)
        if request["processes"] > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(request["processes"])}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(request["port"])}
        sys.argv = request["program"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
