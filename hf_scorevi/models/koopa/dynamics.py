"""Linear dynamics fitted to a short sequence of states, and continued."""

import torch
from torch import Tensor

__all__ = ["fit_dynamics"]


def fit_dynamics(states: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """
    Fit one operator K to each sequence, z_{f+1} ≈ z_f K by least squares, of least norm where many fit; reconstruct
    the sequence, and continue it.

    K = X⁺Y, where X has the states but the last and Y those but the first, has rank F − 1 at most. It is never formed:
    zK = (zX⁺)Y costs F·d and not d². For two states, as in all published settings, X⁺ = xᵀ/‖x‖².

    Args:
        states: z, (B, F, d), F ≥ 2.
        steps: states to continue by.

    Returns:
        The reconstruction z_0, z_0 K, …, z_{F−2} K, (B, F, d), and the continuation z_{F−1} K, z_{F−1} K², …,
        (B, steps, d).

    Source: Liu et al. 2023, section 3.2 (extended dynamic mode decomposition).
    """
    before, after = states[:, :-1], states[:, 1:]
    if before.shape[1] == 1:
        # Of a state of zeros the pseudo-inverse is zero.
        square = before.square().sum(-1, keepdim=True).clamp_min(torch.finfo(before.dtype).tiny)
        inverse = (before / square).mT
    else:
        inverse = torch.linalg.pinv(before)
    reconstruction = torch.cat([states[:, :1], before @ inverse @ after], dim=1)
    continuation = []
    state = states[:, -1:]
    for _ in range(steps):
        state = state @ inverse @ after
        continuation.append(state)
    return reconstruction, torch.cat(continuation, dim=1)
