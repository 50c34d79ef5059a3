"""What docs/metrics.md shows has to run, block after block."""

import re
from pathlib import Path

import pytest

from hf_scorevi import metrics
from hf_scorevi.metrics.loading import metric_names

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("evaluate_caches")
def test_the_blocks_run(capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/metrics.md", "exec"), names)
    probabilities, labels = names["probabilities"], names["labels"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(metrics.ece(probabilities, labels, num_bins=10))
    assert lines[0] in lines[1:]  # by batches through evaluate
    assert names["result"]["nll"]["low"] <= names["result"]["nll"]["difference"]


def test_the_table_has_every_metric():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == metric_names()
