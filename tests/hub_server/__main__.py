"""A Hub to work with by hand, empty at first and forgotten at the end."""

from __future__ import annotations

import argparse
import threading

from . import HubServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub_server", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    with HubServer(port=parser.parse_args().port, log=lambda line: print(line, flush=True)) as hub:
        print("A local Hub is running; Ctrl-C ends it. You are its user 'user' in a shell where you type:\n")
        print(f"  export HF_ENDPOINT={hub.url} HF_TOKEN={hub.token} HF_HUB_DISABLE_XET=1\n", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
