"""
Score-matching variational inference with a proximal step (after arXiv 2602.05873), the library's own method.

In coordinates whitened by the frozen q_t = N(m, L Lᵀ), θ = m + L z and u = Lᵀ ŝ, a new q of relative precision A and
shift b has the score −A(z − b), and the objective is

    E‖−A(z − b) − u‖² + 4κ KL(q_t‖q),      KL(q_t‖q) = ½ [tr A + bᵀA b − D − log det A].

With g = E[u] and H = −E[u zᵀ] it is stationary (without terms of second order in the step) at

    A − H + κ (I − A⁻¹) = 0,      b = (A + 2κI)⁻¹ g,

in closed form on the eigenvalues of H. The score enters linearly: its noise is averaged out and biases nothing. The
fixed points, g = 0 and H = I, are those of the ELBO. Four things make the step efficient without tuning:

- **g and H by regression** of u on z. Score matching fits −A(z − b) to u; using the samples' own second moments
  instead of E[zzᵀ] = I removes all noise from what is linear in the score: a Gaussian target is met exactly.
- **Old samples stay in the regression**, with fading weights: the statistics are averaged first, then the step is
  taken (it is convex in H, so noise would inflate the precision).
- **κ is the measured noise** of H: steps that noise could turn are short, and on a noiseless target κ vanishes. It is
  halved, to no less than a hundredth, while fresh samples confirm one step after the other.
- **A trust region per eigen-direction**, widened while the fitted score predicts fresh samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..inference.proximal import mean_step, precision_ratio
from .gaussian import Gaussian
from .noise import orthogonal_noise, require_pairs
from .regression import ScoreRegression

__all__ = ["ScoreVI", "proximal_step", "proximal_update"]

# The trust region: |log a| and |b|√a stay below its radius. Radii at the start and at least, and how it is changed.
_RADIUS, _MIN_RADIUS, _MAX_RADIUS = 1.0, 0.3, 1e4
_GROW, _SHRINK = 4.0, 0.5
# Share of the fresh scores' mean square that the fit left unexplained, below (above) which the radius grows (shrinks).
_GOOD, _BAD = 0.1, 0.5
# Mean square distance, in standard deviations of q, up to which remembered samples keep their weight.
_REACH = 4.0
# Cosine between a step and fresh samples above which q is on its way: what was learnt further back matters less.
_ON_THE_WAY = 0.5
# Share of the measured noise that κ goes down to while fresh samples confirm one step after the other.
_MIN_CAUTION = 0.01
_MIN_KAPPA, _MAX_KAPPA = 1e-12, 1e6


def proximal_step(h: Tensor, g: Tensor, kappa: float, radius: float = math.inf) -> tuple[Tensor, Tensor]:
    """
    Return a and b of the proximal step per eigen-direction of H, kept inside the trust region.

    Args:
        h: (D,) eigenvalues of H.
        g: (D,) the mean score, in the eigenbasis and whitened.
        kappa: proximal weight κ > 0.
        radius: bound of |log a| and of |b|√a, the shift in standard deviations of the new q.
    """
    a = precision_ratio(h, kappa)
    b = mean_step(g, a, kappa)
    if radius < math.inf:
        a = a.clamp(math.exp(-min(radius, 700)), math.exp(min(radius, 700)))
        limit = radius / a.sqrt()
        b = torch.minimum(torch.maximum(b, -limit), limit)
    return a, b


def proximal_update(
    q: Gaussian, g: Tensor, slope: Tensor, kappa: float, radius: float = math.inf
) -> tuple[Gaussian, Tensor, bool]:
    """
    Take a proximal step from the regression of the whitened score.

    Args:
        g: (D,) mean of u under q.
        slope: (D, D) mean of u zᵀ; its symmetric part is −H.
        kappa, radius: as for `proximal_step`.

    Returns:
        The new Gaussian; the step as a vector whose squared length is, for a small step, 2·KL; and whether the trust
        region held it back.
    """
    curvature = -(slope + slope.T) / 2
    h, basis = torch.linalg.eigh(curvature)
    a, b = proximal_step(h, basis.T @ g, kappa, radius)
    free_a, free_b = proximal_step(h, basis.T @ g, kappa)
    clipped = not (torch.equal(a, free_a) and torch.equal(b, free_b))
    shift = basis @ b
    if q.diagonal:
        # The precision is confined to the diagonal; the mean still sees all of the curvature.
        a, _ = proximal_step(curvature.diagonal(), g, kappa, radius)
        new = Gaussian(q.mean + q.scale * shift, q.scale / a.sqrt())
        return new, torch.cat([shift, (a - 1) / math.sqrt(2)]), clipped
    # Σ' = L Q diag(1/a) Qᵀ Lᵀ; by QR its factor comes without squaring condition numbers.
    r = torch.linalg.qr((q.scale @ basis / a.sqrt()).T, mode="r").R
    new = Gaussian(q.mean + q.scale @ shift, (r * r.diagonal().sign()[:, None]).T)
    change = (basis * (a - 1)) @ basis.T / math.sqrt(2)
    return new, torch.cat([shift, change.flatten()]), clipped


class ScoreVI:
    """
    ScoreVI as a method of `fit`.

    Args:
        batch_size: scores of a step, an even number; default 2·(D + 7), which spans the space at every step. With
            fewer the first step waits until 2·D scores are there.
        proximal_weight: κ; default: from the measured noise.
    """

    def __init__(self, dim: int, batch_size: int | None, proximal_weight: float | None) -> None:
        self.dim, self.batch_size = dim, batch_size or 2 * (dim + 7)
        self._pairs = require_pairs(self.batch_size, "score_vi")
        self._weight = proximal_weight
        self._regression = ScoreRegression(dim)
        self._radius = _RADIUS
        self._age = 0.0  # steps that the memory spans, less one
        self._noise: float | None = None  # mean square of what the fit leaves of a fresh whitened score
        self._last: Tensor | None = None  # the previous step
        self._caution = 1.0  # factor of κ
        self._moved = math.inf

    def noise(self, seed: int, step: int) -> Tensor:
        """Return (B, D) antithetic orthogonal noise."""
        return orthogonal_noise(self._pairs, self.dim, seed, step)

    def error(self) -> float:
        """
        Return the estimated KL between q and the fixed point, in nats: the part due to noise, and that of the last
        step. It is too low where the curvature changes much with q: noise then moves the fixed point further.
        """
        if self._noise is None:
            return math.inf
        per_entry = self._noise * self._regression.spread
        return per_entry * (self.dim * (self.dim + 1) / 8 + self.dim / 2) + self._moved

    def step(self, q: Gaussian, z: Tensor, score: Tensor) -> Gaussian:
        """
        Take one step.

        Raises:
            torch.linalg.LinAlgError: the regression is degenerate; `fit` then keeps q.
        """
        factor, regression = q.factor, self._regression
        ready = 2 * self.dim
        u = score @ factor
        alignment = self._alignment(q, z, u)
        if regression.samples >= ready:
            self._judge(q, factor, z, u)
        regression.add(q.transform(z), score, self._rate(q, factor))
        if regression.samples < ready:
            return q
        g, slope = regression.fit(q.mean, factor)
        new, moved, clipped = proximal_update(q, g, slope, self._kappa(), self._radius)
        self._grow_older(alignment, clipped)
        self._last = moved
        self._moved = q.kl(new)
        return new

    def _judge(self, q: Gaussian, factor: Tensor, z: Tensor, u: Tensor) -> None:
        """Measure the noise on a fresh batch, and how far the fit is to be trusted."""
        g, slope = self._regression.fit(q.mean, factor)
        left = (u - g - z @ slope.T).square().mean().item()
        share = left / max(u.square().mean().item(), 1e-300)
        if share < _GOOD:
            self._radius = min(self._radius * _GROW, _MAX_RADIUS)
        elif share > _BAD:
            self._radius = max(self._radius * _SHRINK, _MIN_RADIUS)
        # The fit's own error is part of what is left.
        noise = left / (1 + self.dim * self._regression.spread)
        rate = 1 / (1 + self._age)
        self._noise = noise if self._noise is None else self._noise + rate * (noise - self._noise)

    def _rate(self, q: Gaussian, factor: Tensor) -> float:
        """Return the fresh batch's weight in the regression."""
        rate = min(1 / (1 + self._age), self.batch_size / (2 * self.dim))
        if self._regression.samples:
            # Samples that q has left behind have leverage: they would decide the fit from afar.
            rate = 1 - (1 - rate) / max(1.0, self._regression.reach(q.mean, factor) / _REACH)
        return rate

    def _kappa(self) -> float:
        if self._weight is not None:
            return self._weight
        if self._noise is None:
            return 1.0
        # Variance of an eigenvalue of H at the edge of the noise's spectrum (semicircle law).
        variance = 2 * self.dim * self._noise * self._regression.spread
        return min(max(self._caution * variance, _MIN_KAPPA), _MAX_KAPPA)

    def _alignment(self, q: Gaussian, z: Tensor, u: Tensor) -> float | None:
        """Return the cosine between the last step and the direction of a step from the fresh batch alone."""
        if self._last is None:
            return None
        change = -(u + z).T @ z / len(z)  # H − I of the batch, without the noise of zzᵀ
        change = change.diagonal() if q.diagonal else ((change + change.T) / 2).flatten()
        fresh = torch.cat([u.mean(0), change / math.sqrt(2)])
        return torch.cosine_similarity(self._last, fresh, dim=0, eps=1e-300).item()

    def _grow_older(self, alignment: float | None, clipped: bool) -> None:
        """
        Lengthen the memory only when fresh samples point back against the last step: it followed noise, and there is
        no way to go (Kesten, Annals of Mathematical Statistics 1958; the step after it would not do for a witness,
        since it shares its noise). While fresh samples confirm the steps, lower κ, and shorten the memory where the
        trust region holds them back.
        """
        if alignment is None:
            return
        if alignment <= 0:
            self._age += 1
            self._caution = 1.0
        elif alignment > _ON_THE_WAY:
            if clipped:
                self._age /= 2
            self._caution = max(_MIN_CAUTION, self._caution / 2)
