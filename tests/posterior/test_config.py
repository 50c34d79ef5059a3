import json

import pytest

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
        ({"num_data": 0}, "num_data must be a positive number"),
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
