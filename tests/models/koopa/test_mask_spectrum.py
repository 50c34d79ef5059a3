import numpy as np
import pytest
import torch

from hf_scorevi.models.koopa import fit_mask_spectrum


def waves(steps, *parts):
    time = np.arange(steps)
    return torch.tensor(sum(a * np.sin(2 * np.pi * k * time / 40 + k) for k, a in parts))


def test_finds_the_frequencies_of_a_series():
    series = torch.stack([waves(300, (3, 1.0), (7, 0.5)), waves(300, (11, 2.0), (7, 0.5))], dim=1)
    assert fit_mask_spectrum(series, 40, spectrum_ratio=3 / 21) == [3, 7, 11]
    assert fit_mask_spectrum(series.float(), 40, spectrum_ratio=2 / 21) == [3, 11]


@pytest.mark.parametrize("length", [16, 17, 31])
def test_against_numpy_over_all_windows(length):
    rng = np.random.default_rng(0)
    several = [rng.normal(size=(700, 3)).cumsum(0), rng.normal(size=(50, 3)).cumsum(0)]
    amplitudes = np.mean(
        [
            np.abs(np.fft.rfft(series[t : t + length], axis=0)).mean(1)
            for series in several
            for t in range(len(series) - length + 1)
        ],
        axis=0,
    )
    count = int((length // 2 + 1) * 0.4)
    expected = sorted(np.argsort(-amplitudes)[:count].tolist())
    assert fit_mask_spectrum([torch.tensor(s) for s in several], length, spectrum_ratio=0.4) == expected


def test_at_least_one_and_at_most_all():
    series = waves(100, (4, 1.0))[:, None]
    assert fit_mask_spectrum(series, 8, spectrum_ratio=0.1) == [1]  # one period in ten steps
    assert fit_mask_spectrum(series, 8, spectrum_ratio=1) == [0, 1, 2, 3, 4]


def test_clear_errors():
    with pytest.raises(ValueError, match=r"\(T, C\) with at least the context_length \(8\) .* not \(7, 2\)"):
        fit_mask_spectrum(torch.zeros(7, 2), 8)
    with pytest.raises(ValueError, match=r"not \(20,\)"):
        fit_mask_spectrum(torch.zeros(20), 8)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_mask_spectrum(torch.full((20, 1), torch.nan), 8)
    with pytest.raises(ValueError, match="series is empty"):
        fit_mask_spectrum([], 8)
    with pytest.raises(ValueError, match="spectrum_ratio must be more than 0 and at most 1, not 0"):
        fit_mask_spectrum(torch.zeros(20, 1), 8, spectrum_ratio=0)
