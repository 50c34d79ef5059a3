import pytest

from hf_scorevi.posterior.temperature import OBSERVATIONS_PER_WEIGHT, resolve_temperature


def test_auto_grants_each_weight_its_pseudo_observations():
    temperature = resolve_temperature("auto", num_data=50, num_weights=58_000)
    assert 50 / temperature == pytest.approx(OBSERVATIONS_PER_WEIGHT * 58_000)


def test_auto_is_bayes_rule_when_data_abound():
    assert resolve_temperature("auto", num_data=10_000, num_weights=10) == 1.0


def test_a_number_is_taken():
    assert resolve_temperature(0.25, num_data=50, num_weights=58_000) == 0.25
