import math

import pytest

from hf_scorevi.posthoc import fit_scale


@pytest.mark.parametrize("best", [0.3, 0.6, 1.0, 1.7, 3.5])
def test_it_finds_the_minimum_of_a_smooth_function(best):
    asked = []

    def nll(scale):
        asked.append(scale)
        return 1 + math.log(scale / best) ** 2

    found = fit_scale(nll)
    assert math.log(found / best) == pytest.approx(0, abs=0.25)  # two octaves in five golden sections: 0.11 of them
    assert len(asked) == len(set(asked)) == 10 and nll(found) <= nll(1.0)


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_at_an_end_it_stays_there(slope):
    assert fit_scale(lambda scale: 5 + slope * scale) == (0.25 if slope > 0 else 4.0)


def test_widths_without_a_finite_likelihood_are_passed_over():
    assert fit_scale(lambda scale: math.inf if scale > 0.6 else scale) == 0.25
    with pytest.raises(ValueError, match="every width"):
        fit_scale(lambda scale: math.nan)
