import pytest

from hf_scorevi.inference import ProximalSchedule


def test_grows_linearly():
    schedule = ProximalSchedule(weight=3.0, growth=0.5)
    assert [schedule(u) for u in (0, 1, 10)] == [3.0, 3.5, 8.0]


@pytest.mark.parametrize(("kwargs", "name"), [({"weight": 0.0}, "weight"), ({"growth": -1.0}, "growth")])
def test_refuses_what_is_no_penalty(kwargs, name):
    with pytest.raises(ValueError, match=f"proximal {name}"):
        ProximalSchedule(**kwargs)
