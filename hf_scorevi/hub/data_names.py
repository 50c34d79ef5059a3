"""The names of data, on the Hub or elsewhere."""

from __future__ import annotations

import re
from typing import Any

import datasets

__all__ = ["describe_data"]


def describe_data(dataset: Any) -> dict[str, Any]:
    """
    Return `dataset`, `dataset_config` and `split` of an `Evaluation`: of data from the Hub as they are called there.
    Others have the name of their class; where files lie on somebody's machine is not told.
    """
    if not isinstance(dataset, datasets.Dataset):
        return {"dataset": "unnamed data" if dataset is None else type(dataset).__name__}
    # A data set keeps the name of its repository without that of the user, which its cache knows.
    own = re.compile(rf"[\\/]([\w.-]+)___{re.escape(dataset.info.dataset_name or '')}[\\/]")
    users = {found.group(1) for file in dataset.cache_files if (found := own.search(file["filename"]))}
    if len(users) != 1:
        return {"dataset": "unnamed data"}
    config = dataset.info.config_name
    return {
        "dataset": f"{users.pop()}/{dataset.info.dataset_name}",
        "dataset_config": None if config == "default" else config,
        "split": None if dataset.split is None else str(dataset.split),
    }
