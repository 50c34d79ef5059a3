"""
Accelerate ignores FSDP on a CPU and gives DDP instead; tests want the real FSDP2 there, over gloo.

Importing nothing and calling `allow()` first makes `AcceleratorState` honour an FSDP plugin on several CPU processes.
As a program it runs another one that way: `python tests/fsdp2_on_cpu.py program.py arguments…`.
"""

import functools
import runpy
import sys
from pathlib import Path


def allow() -> None:
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    original = AcceleratorState.__init__

    @functools.wraps(original)
    def patched(self, *args, fsdp_plugin=None, **kwargs):
        original(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = patched


if __name__ == "__main__":
    allow()
    program = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(program).parent))
    runpy.run_path(program, run_name="__main__")
