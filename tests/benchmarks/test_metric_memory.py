"""The program that measures what the metrics cost: a small run of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "metric_memory.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_measures_and_reports(tmp_path):
    report = tmp_path / "report.json"
    options = ["--examples", "2000", "--classes", "50", "--metrics", "ece", "ood_detection", "--output", str(report)]
    done = subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True, check=True)
    assert "| ece |" in done.stdout
    results = json.loads(report.read_text())["results"]
    assert list(results) == ["ece", "ood_detection"]
    for result in results.values():
        assert 0.0 <= result["beyond_gb"] < 0.1 and result["before_gb"] > 0.01 and result["seconds"] >= 0.0
