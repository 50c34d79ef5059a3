import numpy as np
import pytest
import torch

from hf_scorevi.models.koopa.dynamics import fit_dynamics


@pytest.mark.parametrize(("number", "size"), [(2, 5), (4, 5), (9, 5), (3, 1)])
def test_against_least_squares(number, size):
    states = torch.randn(3, number, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reconstruction, continuation = fit_dynamics(states, 3)
    for one, found, ahead in zip(states.numpy(), reconstruction.numpy(), continuation.numpy(), strict=True):
        operator = np.linalg.lstsq(one[:-1], one[1:], rcond=None)[0]
        np.testing.assert_allclose(found, np.concatenate([one[:1], one[:-1] @ operator]), atol=1e-12)
        powers = [one[-1] @ np.linalg.matrix_power(operator, s) for s in (1, 2, 3)]
        np.testing.assert_allclose(ahead, np.stack(powers), rtol=1e-9, atol=1e-9)


def test_continues_linear_dynamics_exactly():
    angle = torch.tensor(0.3, dtype=torch.float64)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    states = [torch.tensor([1.0, 2.0], dtype=torch.float64)]
    for _ in range(8):
        states.append(states[-1] @ rotation)
    reconstruction, continuation = fit_dynamics(torch.stack(states[:4])[None], 5)
    torch.testing.assert_close(reconstruction[0], torch.stack(states[:4]))
    torch.testing.assert_close(continuation[0], torch.stack(states[4:]))


def test_two_states_by_hand():
    states = torch.tensor([[[1.0, 0.0], [0.5, 2.0]]])
    reconstruction, continuation = fit_dynamics(states, 2)
    torch.testing.assert_close(reconstruction, states)
    torch.testing.assert_close(continuation, torch.tensor([[[0.25, 1.0], [0.125, 0.5]]]))  # z_0·z_1/‖z_0‖² = 0.5


def test_states_that_are_not_finite():
    states = torch.ones(1, 2, 3)
    states[0, 0, 0] = torch.nan
    assert fit_dynamics(states, 1)[1].isnan().all()
    with pytest.raises(torch.linalg.LinAlgError):
        fit_dynamics(torch.cat([states, states], dim=1), 1)


def test_a_state_of_zeros_leads_to_zeros():
    states = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]])
    reconstruction, continuation = fit_dynamics(states, 1)
    assert not reconstruction.any() and not continuation.any()
