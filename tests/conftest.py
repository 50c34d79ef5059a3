"""Settings that must stand before transformers or huggingface_hub are imported."""

import gc
import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="module", autouse=True)
def _own_garbage() -> None:
    """Each training collects garbage, and need not look for it in all that imports and other tests have made."""
    gc.collect()
    gc.freeze()
