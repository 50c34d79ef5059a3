"""Pointing the Hugging Face libraries at a local Hub, in this process or in a fresh one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from .server import HubServer

ROOT = Path(__file__).parents[2]


def run_client(
    hub: HubServer,
    code: str,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 120,
) -> str:
    """What a piece of Python prints, run by a fresh process that works with the Hub and has an empty cache.

    Args:
        hub: the Hub; its user is signed in.
        code: the program. It runs in an empty folder, and can import ``tests``.
        env: variables to set besides, or to remove if None: ``{"HF_TOKEN": None}`` signs out.
        timeout: seconds after which it failed.
    """
    with tempfile.TemporaryDirectory() as home:
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HOME": f"{home}/hf",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would tell S3
            "DISABLE_SAFETENSORS_CONVERSION": "1",  # transformers would ask a Space to convert a .bin file
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **(env or {}),
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
        try:
            process = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(code)],
                env={k: v for k, v in {**inherited, **settings}.items() if v is not None},
                cwd=home,
                timeout=timeout,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired as error:
            errors = (error.stderr or b"").decode(errors="replace")
            raise AssertionError(f"The client took more than {timeout} s:\n{errors}") from None
    if process.returncode:
        raise AssertionError(f"The client ended with {process.returncode}:\n{process.stdout}{process.stderr}")
    return process.stdout


@dataclass
class Client:
    """This process, while it works with a Hub."""

    home: Path
    waits: list[float] = field(default_factory=list)  # seconds that huggingface_hub wanted to wait before a retry


@contextmanager
def online(hub: HubServer, home: Path, token: str | None = "") -> Iterator[Client]:
    """Point huggingface_hub, transformers, peft and datasets of this process to the Hub for the time of a block.

    They read their environment when they are imported, so this changes what they read it into. huggingface_hub waits
    for nothing before it tries again, and ``waits`` of the result says how long it would have waited.

    Args:
        hub: the Hub.
        home: folder for the caches; an empty one is an empty cache.
        token: of whom is signed in; the Hub's user by default, nobody if None.
    """
    import datasets.config
    import pytest
    import transformers.utils.hub
    from huggingface_hub import close_session, constants, file_download, hf_api, hf_file_system
    from huggingface_hub.utils import _detect_agent, _http

    client = Client(home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,  # is_offline_mode() and the hook of every request read it anew
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),  # not the token of who runs the tests
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        }.items():
            patch.setattr(constants, name, value)
        # Objects made at import, which have their own copy of the endpoint.
        for api in (hf_api.api, hf_file_system.hffs._api, hf_file_system.hffs):
            patch.setattr(api, "endpoint", hub.url)
        patch.setattr(transformers.utils.hub, "_hf_api", None)  # made anew when it is needed
        for name, value in {
            "HF_ENDPOINT": hub.url,
            "HUB_DATASETS_URL": hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}",
            "HF_HUB_OFFLINE": False,
            "HF_UPDATE_DOWNLOAD_COUNTS": False,  # it would tell S3
            "USE_PARQUET_EXPORT": False,  # it would ask the dataset viewer
            "HF_DATASETS_CACHE": home / "datasets",
            "DOWNLOADED_DATASETS_PATH": home / "datasets" / "downloads",
        }.items():
            patch.setattr(datasets.config, name, value)
        patch.setenv("HF_HUB_OFFLINE", "0")  # peft reads the variable itself
        patch.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")  # transformers would ask a Space to convert a .bin file
        patch.setenv("NO_PROXY", "127.0.0.1")
        if token is None:
            patch.delenv("HF_TOKEN", raising=False)
        else:
            patch.setenv("HF_TOKEN", token or hub.token)
        patch.setattr(_detect_agent, "_registry", _detect_agent._EMPTY_REGISTRY)  # or it would ask the Hub for it
        for module in (_http, file_download):
            patch.setattr(module, "time", SimpleNamespace(sleep=client.waits.append))
        close_session()  # its connections and proxies are those of before
        hf_file_system.HfFileSystem.clear_instance_cache()
        try:
            yield client
        finally:
            close_session()
            hf_file_system.HfFileSystem.clear_instance_cache()
