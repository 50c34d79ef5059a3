"""Settings that must stand before transformers or huggingface_hub are imported."""

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def pytest_collection_finish() -> None:
    """The collections of garbage that each training asks for need not look through all that imports have made."""
    gc.freeze()
