import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from hf_scorevi import PosteriorConfig


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"family": "banana"}, "Unknown posterior family 'banana'; choose one of block_diagonal, diagonal, full"),
        ({"prior_mean": "mean"}, "prior_mean must be"),
        ({"prior_std": -1}, "prior_std must be a positive number or 'auto', not -1"),
        ({"prior_std": "wide"}, "prior_std must be a positive number or 'auto', not 'wide'"),
        ({"temperature": 0}, "temperature must be a positive number"),
        ({"temperature": float("nan")}, "temperature must be a positive number"),
        ({"num_data": 0}, "num_data must be a whole number of at least 1, not 0"),
        ({"num_data": 0.5}, "num_data must be a whole number of at least 1, not 0.5"),
        ({"num_data": 10**30}, "num_data must be a whole number of at least 1 and at most 9,007,199,254,740,992"),
        ({"num_data": 1e30}, "num_data must be a whole number of at least 1 and at most 9,007,199,254,740,992"),
        ({"num_data": True}, "num_data must be a whole number"),
        ({"num_data": 10**400}, "num_data must be a whole number"),
        ({"rank": 10**30}, "rank must be a whole number of at least 1 and at most"),
        ({"rank": 2.5}, "rank must be a whole number"),
        ({"init_std": 1e30}, "init_std must be a positive number between 1e-15 and 1e\\+15, not 1e\\+30"),
        ({"init_std": 1e-300}, "init_std must be a positive number between 1e-15 and 1e\\+15, not 1e-300"),
        ({"init_std": float("inf")}, "init_std must be a positive number"),
        ({"prior_std": 1e-200}, "prior_std must be a positive number between 1e-09 and 1e\\+15 or 'auto'"),
        ({"prior_std": True}, "prior_std must be a positive number or 'auto', not True"),
        ({"prior_std": 10**400}, "prior_std must be a positive number between"),
        ({"prior_std": 10**5000}, "prior_std must be a positive number between .* not a value too long to show"),
        ({"temperature": np.array([1.0, 2.0])}, "temperature must be a positive number or 'auto'"),
        ({"noise_variance": 1e300}, "noise_variance must be a positive number between"),
        ({"noise_variance": -0.1}, "noise_variance must be a positive number"),
        ({"init_std": 0.0}, "init_std must be a positive number"),
    ],
)
def test_bad_values_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PosteriorConfig(**kwargs)


def test_survives_json():
    config = PosteriorConfig(family="diagonal", target=("a", "b.*"), exclude=["c"], prior_std=0.1, num_data=7)
    again = PosteriorConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()
    assert again.target == ["a", "b.*"]


def test_a_single_exclusion_may_be_a_string():
    assert PosteriorConfig(exclude="classifier").to_dict()["exclude"] == ["classifier"]


def test_a_callable_target_is_recorded_as_custom():
    assert PosteriorConfig(target=lambda name, p: True).to_dict()["target"] == "custom"


def test_unknown_fields_are_named():
    with pytest.raises(ValueError, match=r"Unknown fields.*: colour"):
        PosteriorConfig.from_dict({"colour": "red"})


@pytest.mark.parametrize("number", [np.float32, np.float64, torch.tensor, Fraction, str])
def test_any_kind_of_number_becomes_one_that_json_has(number):
    given = {"prior_std": 0.5, "temperature": 0.25, "init_std": 0.125, "noise_variance": 2.0}
    config = PosteriorConfig(**{name: number(value) for name, value in given.items()})
    written = json.loads(json.dumps(config.to_dict()))
    assert {name: written[name] for name in given} == given


@pytest.mark.parametrize("number", [np.int64, np.int32, torch.tensor, float, str])
def test_any_kind_of_whole_number_becomes_one_that_json_has(number):
    config = PosteriorConfig(num_data=number(50000), rank=number(3))
    written = json.loads(json.dumps(config.to_dict()))
    assert (written["num_data"], written["rank"]) == (50000, 3)
    assert isinstance(config.num_data, int) and isinstance(config.rank, int)
