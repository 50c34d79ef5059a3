"""The program that measures the memory of an evaluation: a small run of it."""

import sys

import pytest

from benchmarks import evaluation_memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_both_trainers_find_the_same_loss():
    found = [evaluation_memory.measure(which, 4, 300) for which in evaluation_memory.TRAINERS]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-3)
    assert all(0 <= result["growth_mib"] < 500 for result in found)
