"""How a posterior is stored beside its mean."""

from .checkpoint import (
    FORMAT_VERSION,
    POSTERIOR_CONFIG_NAME,
    POSTERIOR_NAME,
    StoredPosterior,
    load_posterior,
    read_base_config,
    save_posterior,
    write_aside,
)
from .keys import file_keys

__all__ = [
    "FORMAT_VERSION",
    "POSTERIOR_CONFIG_NAME",
    "POSTERIOR_NAME",
    "StoredPosterior",
    "file_keys",
    "load_posterior",
    "read_base_config",
    "save_posterior",
    "write_aside",
]
