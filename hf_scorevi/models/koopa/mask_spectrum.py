"""Choice of the frequencies of a series that are its time-invariant part."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["fit_mask_spectrum"]

_WINDOWS_AT_ONCE = 512


def fit_mask_spectrum(
    series: Tensor | Sequence[Tensor], context_length: int, *, spectrum_ratio: float = 0.2
) -> list[int]:
    """
    Return the frequencies with the largest mean amplitude over all windows and channels of the training series,
    ascending: the `mask_spectrum` of a `KoopaConfig`.

    Args:
        series: of the training data alone, standardised by channel, (T, C) with T ≥ L; or several.
        context_length: L, the length of a window.
        spectrum_ratio: the share of the L // 2 + 1 frequencies to take, rounded down, at least one of them.

    Raises:
        ValueError: a series of another shape, a shorter one, or values that are not finite; a ratio out of (0, 1].

    Source: Liu et al. 2023, section 3.2. The original leaves out windows that its loader drops: those without a whole
    future, and an incomplete last batch.
    """
    if not 0 < spectrum_ratio <= 1:
        raise ValueError(f"spectrum_ratio must be more than 0 and at most 1, not {spectrum_ratio}.")
    several = [series] if isinstance(series, Tensor) else list(series)
    if not several:
        raise ValueError("series is empty: there is nothing to fit the mask to.")
    # In double precision, so that the order of windows and series cannot matter for the choice.
    sums = torch.zeros(context_length // 2 + 1, dtype=torch.float64)
    for one in several:
        if one.dim() != 2 or len(one) < context_length:
            raise ValueError(
                f"series must have the shape (T, C) with at least the context_length ({context_length}) of time "
                f"steps, not {tuple(one.shape)}."
            )
        if not torch.isfinite(one).all():
            raise ValueError("series has values that are NaN or infinite: fill them in first.")
        for windows in one.detach().double().unfold(0, context_length, 1).split(_WINDOWS_AT_ONCE):  # (n, C, L)
            sums += torch.fft.rfft(windows).abs().mean(1).sum(0).cpu()
    count = max(1, int(len(sums) * spectrum_ratio))
    return sorted(sums.topk(count).indices.tolist())
