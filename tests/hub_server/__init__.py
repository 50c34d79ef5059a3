"""A small Hugging Face Hub on this machine, over real HTTP, for the unmodified clients to speak to.

>>> with HubServer() as hub:
...     HfApi(hub.url, hub.token).create_repo("user/model")

``hub.commit`` puts files there without HTTP, ``hub.faults`` makes requests fail, and ``hub.requests`` says what was
asked. ``online`` points the clients of this process to it, ``run_client`` those of a fresh one, and
``python -m tests.hub_server`` serves one to work with by hand. It knows nothing of Xet (clients need
``HF_HUB_DISABLE_XET=1``), LFS in several parts, discussions, gated repositories and organisations.
"""

from . import routes  # noqa: F401 - fills the table of routes
from .client import Client, online, run_client
from .server import Fault, HubServer, Record
from .storage import Blob, Commit, Repo

__all__ = ["Blob", "Client", "Commit", "Fault", "HubServer", "Record", "Repo", "online", "run_client"]
