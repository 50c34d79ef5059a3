"""How a posterior is stored beside its mean."""

from .checkpoint import (
    FORMAT_VERSION,
    POSTERIOR_CONFIG_NAME,
    POSTERIOR_NAME,
    StoredPosterior,
    save_posterior,
    write_aside,
)
from .fetching import fetch_checkpoint
from .keys import file_keys
from .loading import load_posterior, read_checkpoint
from .models import load_mean, read_base_config

__all__ = [
    "FORMAT_VERSION",
    "POSTERIOR_CONFIG_NAME",
    "POSTERIOR_NAME",
    "StoredPosterior",
    "fetch_checkpoint",
    "file_keys",
    "load_mean",
    "load_posterior",
    "read_base_config",
    "read_checkpoint",
    "save_posterior",
    "write_aside",
]
